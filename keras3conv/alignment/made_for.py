"""Report that a plan was made for other models than the two it is used with."""

from collections.abc import Iterator, Mapping

from keras3conv.errors import Problem
from keras3conv.messages import collapse_problems, count
from keras3conv.model.views import ModelView

_MAKE_AGAIN = "plan = k3c.align(torch, keras)"
"""The call that makes a plan for the given models."""

_FEW = 8
"""The number of differences up to which all are named."""

_EXAMPLES = 3
"""The number of differences that are named of each model if there are more."""


def made_for_others(*sides: tuple[ModelView, ModelView]) -> tuple[Problem, ...]:
    """Return the problem that a plan was made for other models, with examples; empty if both have the same tensors.

    Args:
        sides: For each side, the model that the plan was made for, and the model to compare with it.
    """
    differing = [(*side, found) for side in sides if (found := list(_differences(*side)))]
    if not differing:
        return ()
    planned = " and ".join(planned.title for planned, _, _ in differing)
    given = " and ".join(given.title for _, given, _ in differing)
    which = f"another {planned}" if planned == given else f"{planned}, not for {given}"
    number = sum(len(found) for _, _, found in differing)
    fact = f"the plan was made for {which} ({count(number, 'difference')})"
    lines = [collapse_problems(found) for _, _, found in differing]
    shown = None if sum(map(len, lines)) <= _FEW else _EXAMPLES
    examples = [problem for found in lines for problem in found[:shown]]
    return (Problem(fact=fact, fixes=(_MAKE_AGAIN,)), *examples)


def _differences(planned: ModelView, compared: ModelView) -> Iterator[Problem]:
    """Yield a problem for each tensor that only one of two models has, or that has another shape in the second.

    Args:
        planned: The model that the plan was made for.
        compared: The model to compare with it, of the same framework.
    """
    before, now = _shapes(planned), _shapes(compared)
    side = compared.side
    for path, shape in before.items():
        if path not in now:
            yield Problem.on(side, path, f"the plan has this tensor, of shape {shape}, but the model does not")
    for path, shape in now.items():
        if path not in before:
            yield Problem.on(side, path, f"the model has this tensor, of shape {shape}, but the plan does not")
    for path, shape in now.items():
        if path in before and before[path] != shape:
            yield Problem.on(side, path, f"this tensor has shape {shape}, but in the plan it has {before[path]}")


def _shapes(view: ModelView) -> Mapping[str, tuple[int, ...]]:
    return {tensor.path: tensor.shape for tensor in view.tensors() if not tensor.is_seed}
