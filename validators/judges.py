"""The list of judges: the proofs that a certificate can ask for, in order."""

from collections.abc import Callable

from keras3conv.errors import InputError
from keras3conv.report.values import Section
from keras3conv.validators.running.options import Options
from keras3conv.validators.running.subject import Subject

Judge = Callable[[Subject], Section]


_ASKED_FOR_BY = {
    "backends": 'backends="all"',
    "onnx": "onnx=True",
    "accuracy": "labels=...",
    "expected": 'expected="outputs.npz"',
}
"""The proofs that a name alone does not ask for."""


def judges(options: Options | None = None) -> tuple[tuple[str, Judge], ...]:
    """The judges, in the order in which a certificate lists them; without options those that are always asked.

    Raises:
        InputError: The options name a proof that there is not.
    """
    from keras3conv.validators import (
        accuracy,
        activations,
        backends,
        expected,
        float64,
        gradients,
        hyperparameters,
        outputs,
        roundtrip,
        structure,
    )

    options = options or Options()
    found: tuple[tuple[str, Judge], ...] = (
        ("structure", structure.check),
        ("roundtrip", roundtrip.check),
        ("hyperparameters", hyperparameters.check),
        ("float64", float64.check),
        ("activations", activations.check),
        ("outputs", outputs.check),
        ("gradients", gradients.check),
    )
    found += ((expected.NAME, expected.check),) if options.expected else ()
    found += (("backends", backends.check),) if options.backends else ()
    found += (_fourth_opinion(),) if options.onnx else ()
    found += (("accuracy", accuracy.check),) if options.labels is not None else ()
    known = [name for name, _ in found]
    if unknown := [name for name in options.proofs if name not in known]:
        asked = f"\nFix:  validate(..., {_ASKED_FOR_BY[unknown[0]]})" if unknown[0] in _ASKED_FOR_BY else ""
        raise InputError(f"there is no proof {unknown[0]!r} here; there are {', '.join(known)}{asked}")
    # Without a plan that is right nothing else is worth running, so its judge is asked always.
    return tuple((name, check) for name, check in found if options.wants(name) or name == "structure")


def _fourth_opinion() -> tuple[str, Judge]:
    from keras3conv.validators.onnx import crosscheck as onnx_crosscheck

    return onnx_crosscheck.NAME, onnx_crosscheck.check
