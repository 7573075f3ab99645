"""Whether a model returns the same when it is called again: nothing random is on, and no state is carried on."""

from collections.abc import Iterator

from keras3conv.errors import Problem
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.numerics.difference import compare, resolution, same_bits
from keras3conv.transforms import Array
from keras3conv.validators.running.ends import output_pairs
from keras3conv.validators.running.subject import Subject

_RANDOM = (
    "returns other values when it is called again: something random is on, although it is in inference mode, or it "
    "remembers its calls outside of its buffers and variables"
)

_ROUNDINGS = 4.0

SUSPICIOUS = 1024.0
"""Units in the last place of the largest value, from which on a noise floor is too high to be rounding alone."""


def unsteady(subject: Subject) -> Iterator[Problem]:
    """What makes the outputs a matter of chance.

    The noise floor of a random model is as high as its randomness, so nothing would be found against it.
    """
    drawn = [path for path in subject.keras_run.changed if "seed_generator_state" in path]
    for path in drawn:
        layer = path.rpartition("/")[0]
        yield Problem(keras=layer, fact="draws random numbers, although it is in inference mode", fixes=_FIXES_KERAS)
    if not _same(subject.torch_run, subject.torch_again):
        yield Problem(torch=subject.outlines[0].name, fact=_RANDOM, fixes=_FIXES_TORCH)
    if not drawn and not _same(subject.keras_run, subject.keras_again):
        yield Problem(keras=subject.outlines[1].name, fact=_RANDOM, fixes=_FIXES_KERAS)


_FIXES_TORCH = ("F.dropout(x, p, training=self.training)",)
_FIXES_KERAS = ("self.dropout(x, training=training)",)


def states(subject: Subject) -> dict[str, str]:
    """What a call changes, beside random states: it is put back, so every run of a certificate begins alike."""
    found = {"state in torch": subject.torch_run.changed}
    found["state in Keras"] = tuple(path for path in subject.keras_run.changed if "seed_generator_state" not in path)
    return {
        name: f"{', '.join(paths)} (changed by a call; every run began with the value that it has)"
        for name, paths in found.items()
        if paths
    }


def is_suspicious(truth: Recording, run: Recording) -> bool:
    """Whether the noise floor of an output is too high for rounding.

    Args:
        truth: The torch module in float64.
        run: The same in its own dtype, on the same inputs.
    """
    for pair in output_pairs(truth, run):
        if pair.odd or not pair.keras.size or pair.keras.dtype.kind in "iub":
            continue
        largest = float(abs(pair.torch).max())
        noise = float(abs(pair.torch - pair.keras).max())
        if not noise <= SUSPICIOUS * resolution(pair.keras) * largest:
            return True
    return False


def _same(first: Recording, second: Recording) -> bool:
    """Whether two runs gave the same, up to a rounding or two: shared work may add in another order."""
    if first.outputs.keys() != second.outputs.keys():
        return False
    return all(_is_rounding(first.outputs[name], second.outputs[name]) for name in first.outputs)


def _is_rounding(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return False
    return same_bits(first, second) or compare(second, first).max_ulp <= _ROUNDINGS
