"""Check that a model is deterministic: calling it again returns the same values."""

from collections.abc import Iterator

from keras3conv.errors import Problem
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.numerics.difference import compare, resolution, same_bits
from keras3conv.transforms import Array
from keras3conv.validators.running.output_pairs import output_pairs
from keras3conv.validators.running.subject import Subject

_RANDOM = (
    "this model returns different values when it is called again, although it is in inference mode: it draws random "
    "numbers, or it "
    "keeps state outside of its buffers and variables"
)

_DRAWS = "this layer draws random numbers, although it is in inference mode"

_ROUNDINGS = 4.0
"""The units in the last place by which two calls may differ: parallel sums may add their terms in another order."""

SUSPICIOUS = 1024.0
"""The noise floor, in units in the last place of the largest value, above which rounding alone is no explanation."""

_FIXES_TORCH = ("F.dropout(x, p, training=self.training)  # torch",)
_FIXES_KERAS = ("self.dropout(x, training=training)  # Keras",)


def nondeterminism(subject: Subject) -> Iterator[Problem]:
    """Yield a problem for every side whose outputs change when it is called again.

    The noise floor of a random model is as large as its random changes, so every difference would pass.
    """
    yield from draws(subject)
    random_states = _random_states(subject)
    if not _same_outputs(subject.torch_run, subject.once(_torch_again)):
        yield Problem(torch=subject.outlines[0].name, fact=_RANDOM, fixes=_FIXES_TORCH)
    if not random_states and not _same_outputs(subject.keras_run, subject.once(_keras_again)):
        yield Problem(keras=subject.outlines[1].name, fact=_RANDOM, fixes=_FIXES_KERAS)


def _torch_again(subject: Subject) -> Recording:
    from keras3conv.frameworks.torch import module as torch_side

    with torch_side.precise():
        return torch_side.run(subject.torch, subject.required_inputs.torch, watch=False)


def _keras_again(subject: Subject) -> Recording:
    from keras3conv.frameworks.keras import model as keras_side

    with keras_side.precise():
        return keras_side.run(subject.keras, subject.required_inputs.keras, watch=False)


def draws(subject: Subject) -> Iterator[Problem]:
    """Yield a problem for every Keras layer whose random generator was used in the recorded run."""
    for path in _random_states(subject):
        yield Problem(keras=path.rpartition("/")[0], fact=_DRAWS, fixes=_FIXES_KERAS)


def _random_states(subject: Subject) -> list[str]:
    return [path for path in subject.keras_run.changed if "seed_generator_state" in path]


def state_facts(subject: Subject) -> dict[str, str]:
    """Return a line of the report for each side whose model changes its own tensors when it is called; {} for none.

    For example: {"state in torch": "counter (changed by a call, and restored before every run)"}.
    """
    changed = {
        "state in torch": subject.torch_run.changed,
        "state in Keras": tuple(path for path in subject.keras_run.changed if "seed_generator_state" not in path),
    }
    return {
        name: f"{', '.join(paths)} (changed by a call, and restored before every run)"
        for name, paths in changed.items()
        if paths
    }


def noise_is_suspicious(float64_run: Recording, run: Recording) -> bool:
    """Return whether the noise floor of an output is too large to be caused by rounding.

    Args:
        float64_run: The torch module in float64.
        run: The torch module in its own dtype, on the same inputs.
    """
    for pair in output_pairs(float64_run, run):
        if pair.mismatch or not pair.keras_output.size or pair.keras_output.dtype.kind in "iub":
            continue
        largest = float(abs(pair.torch_output).max())
        noise = float(abs(pair.torch_output - pair.keras_output).max())
        if not noise <= SUSPICIOUS * resolution(pair.keras_output) * largest:  # NaN is suspicious too
            return True
    return False


def _same_outputs(first: Recording, second: Recording) -> bool:
    if first.outputs.keys() != second.outputs.keys():
        return False
    return all(_differ_by_rounding(first.outputs[name], second.outputs[name]) for name in first.outputs)


def _differ_by_rounding(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return False
    return same_bits(first, second) or compare(second, first).max_ulp <= _ROUNDINGS
