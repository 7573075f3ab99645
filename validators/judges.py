"""List the proofs of `validate` and the functions that run them (judges), in the order of the report."""

from collections.abc import Callable
from difflib import get_close_matches

from keras3conv.errors import InputError
from keras3conv.report.values import Section
from keras3conv.validators.running.options import Options
from keras3conv.validators.running.subject import Subject

Judge = Callable[[Subject], Section]
"""A function that runs one proof and returns its section of the report of `validate`."""

REQUESTED_BY = {
    "backends": 'backends="all"',
    "onnx": "onnx=True",
    "accuracy": "labels=labels",
    "expected": 'expected="outputs.npz"',
}
"""The argument of `validate` that requests each optional proof, by the name of the proof."""


def judges(options: Options | None = None) -> tuple[tuple[str, Judge], ...]:
    """Return the requested proofs in the order of the certificate: (("structure", check), ("roundtrip", check), ...).

    Args:
        options: The options of `validate`; None for the proofs that run by default.

    Raises:
        InputError: The options name an unknown proof, or an optional proof whose argument is missing.
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
    available: dict[str, Judge] = {
        "structure": structure.check,
        "roundtrip": roundtrip.check,
        "hyperparameters": hyperparameters.check,
        "float64": float64.check,
        "activations": activations.check,
        "outputs": outputs.check,
        "gradients": gradients.check,
    }
    if options.expected:
        available[expected.NAME] = expected.check
    if options.backends:
        available["backends"] = backends.check
    if options.onnx:
        from keras3conv.validators.onnx import crosscheck

        available[crosscheck.NAME] = crosscheck.check
    if options.labels is not None:
        available["accuracy"] = accuracy.check
    if options.local:
        from keras3conv.validators import local

        available |= {name: local.one_pair_at_a_time(name, available[name]) for name in local.PROOFS}
    for name in options.proofs:
        if name not in available:
            near = get_close_matches(name, available, 1)
            fix = f'\nFix:  proofs="{near[0]}"' if near else ""
            fix = f"\nFix:  {REQUESTED_BY[name]}" if name in REQUESTED_BY else fix
            raise InputError(
                f"there is no proof {name!r} for these models and arguments; there are {', '.join(available)}{fix}"
            )
    # If the plan is wrong, no other proof is meaningful, so the structure is always proven.
    return tuple((name, check) for name, check in available.items() if options.wants(name) or name == "structure")


def without_effect(options: Options) -> tuple[str, ...]:
    """Return a note for each argument without effect: `onnx`, for example, if `proofs` does not contain its proof.

    Args:
        options: The options of `validate`.
    """
    given = {
        "expected": bool(options.expected),
        "backends": bool(options.backends),
        "onnx": bool(options.onnx),
        "accuracy": options.labels is not None,
    }
    return tuple(
        f"the argument {REQUESTED_BY[name].partition('=')[0]} had no effect: the proof {name} was not asked for"
        for name, is_given in given.items()
        if is_given and not options.wants(name)
    )
