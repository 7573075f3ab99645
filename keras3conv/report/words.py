"""Define short explanations of the terms in a certificate, for its HTML page; docs/certificate.md explains more."""

TITLE = "Words of this page"

WORDS = {
    "noise floor": "the rounding error of the torch module: its output in its own dtype minus its output in float64. A "
    "difference of the models up to 8 times as large is rounding.",
    "ratio": "a difference divided by the noise floor.",
    "probe weights": "random weights for the float64 runs, the same on both sides. All tensors differ, so that a swap "
    "shows.",
    "layer call": "one call of a layer in a run of the model; a layer that is called twice has two.",
    "in isolation": "the Keras layer alone, on the inputs that the torch layer had, so that errors of earlier layers "
    "are left out.",
    "bounds": "the values at which activations and clips change, such as the 6 of ReLU6. A bound is reached if a run "
    "had values on both sides of it.",
    "1e-10": "the largest relative difference in float64 that rounding can explain; the same for all models.",
    "skipped": "not run, for the reason that is given. It proves nothing, and is not a failure.",
    "unconfirmed": "the pairs fit by their names or shapes, but no run of the models has confirmed them.",
}
"""The meaning of each word, in a sentence or two."""
