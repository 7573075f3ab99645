"""List the limits of a certificate (the report of `validate`); its HTML and Markdown forms end with this list."""

TITLE = "What a certificate does not say"

PAGE = "docs/limits.md"
"""The page of the documentation that explains the limits with examples."""

LIMITS = (
    "It does not say that the model is good. Two models that make the same mistakes pass.",
    "It holds for these two models with these weights. After a training step or another file, a new one is needed.",
    "It holds for the versions and the machine in it. Another processor or another release may round differently.",
    "Only what ran was compared. A branch, a mask or a size that no input reached is unknown; float64 lists them.",
    "A skipped proof proves nothing. It is not a failure either.",
    "A file is proven as it is read here. Only expected= compares with what the software that wrote it returned.",
    "Random numbers differ. Dropout and noise are compared by their rates, not by their values.",
    "Code around the model is outside: resizing, normalisation of images, tokenizers, and the order of the classes.",
    "Speed and memory are not compared.",
)
"""The limits of a certificate, a sentence or two each."""
