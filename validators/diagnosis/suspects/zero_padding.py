"""Write the lines that give a convolution or a pooling another padding: all of them, for torch and for Keras.

A padding is an argument of the layer, or an operation right before it, or both. Each line changes one of them.
"""

from keras3conv.frameworks.torch.calls import Operation
from keras3conv.frameworks.torch.replay import GIVEN
from keras3conv.rules.helpers.padding import Pads
from keras3conv.validators.diagnosis.suspects.base import VIEWS, Case, flat, ints, only_at_this_size
from keras3conv.validators.diagnosis.suspects.in_keras import padded

_MOVING = VIEWS | {GIVEN}
"""Operations that compute nothing."""


def own_pads(operation: Operation, rank: int) -> Pads | None:
    """Return the padding that an operation has as an argument; None for a padding that is a word, such as "same"."""
    padding = operation.get("padding", 0)
    return None if isinstance(padding, str) else tuple((side, side) for side in ints(padding, rank))


def pad_before(case: Case, operation: Operation) -> Operation | None:
    """Return the operation of torch that adds zeros right before another one; None if there is none."""
    every = (*case.torch.operations_before, *case.torch.operations)
    earlier = [one for one in every if one.place < operation.place and one.result and one.name not in _MOVING]
    last = max(earlier, key=lambda one: one.place, default=None)
    is_padding = last is not None and last.name == "pad" and last.result == operation.get("input")
    if last is None or not is_padding or last.get("mode", "constant") != "constant" or last.get("value"):
        return None
    return last


def pads_of(operation: Operation | None, rank: int) -> Pads:
    """Return the padding that a `pad` of torch adds along the last axes; none without such an operation."""
    sides = list(operation.get("pad", ())) if operation else []
    sides += [0] * (2 * rank - len(sides))
    return tuple((sides[2 * axis], sides[2 * axis + 1]) for axis in reversed(range(rank)))


def together(first: Pads, second: Pads) -> Pads:
    """Return the padding of two paddings, one after the other."""
    pairs = zip(first, second, strict=True)
    return tuple((before + other_before, after + other_after) for (before, after), (other_before, other_after) in pairs)


def lines_in_torch(case: Case, operation: Operation, pads: Pads, stride: tuple[int, ...], value: str = "") -> str:
    """Return the lines that give an operation of torch another padding.

    Args:
        case: The point at which two models differ.
        operation: A convolution or a pooling.
        pads: The padding that it must have.
        stride: Its stride, if the padding depends on the size of the input; else ones.
        value: The padded value as an argument of `pad`, `value=-float("inf")`; empty for that of the operation itself.
    """
    where, before = case.place(operation), pad_before(case, operation)
    note = only_at_this_size(before or operation, stride)
    if before is None and all(first == last for first, last in pads):
        return f"padding={_shortest(pads)}  # {where}{note}"
    lines = [f"x = F.pad(x, {flat(pads)}{f', {value}' if value else ''})  # {case.before(operation)}{note}"]
    if before is not None and case.torch.classes.get(before.owner, "").startswith("torch.nn.ZeroPad"):
        lines = [f"nn.ZeroPad{len(pads)}d({flat(pads)})  # {before.owner}{note}"]
    elif before is not None:
        lines = [f"x = F.pad(x, {flat(pads)})  # {case.before(operation)}, in place of the F.pad there{note}"]
    own = own_pads(operation, len(pads))
    return "\n".join([*lines, *([f"padding=0  # {where}"] if own is None or any(map(any, own)) else [])])


def lines_in_keras(case: Case, operation: Operation, pads: Pads, same: Pads) -> str:
    """Return the lines that give the convolution of Keras that is paired with one of torch another padding.

    Args:
        case: The point at which two models differ.
        operation: The convolution of torch.
        pads: The padding that it must have.
        same: The padding of "same" for inputs of any size; none if it depends on the size.
    """
    where = case.keras_path_of(operation)
    own = case.keras_config_of(operation).get("padding", "same")
    before = case.keras.zero_paddings.get(where)
    valid = [] if own == "valid" else [f'padding="valid"  # {where}']
    if before is not None:
        sides = (pads if len(pads) > 1 else pads[0]) if any(map(any, pads)) else 0
        return "\n".join([f"padding={sides}  # {before.path}", *valid])
    if not any(map(any, pads)):
        return "\n".join(valid)
    if pads == same:
        return f'padding="same"  # {where}'
    return "\n".join([f"x = {padded(pads)}  # before {where}", *valid])


def _shortest(pads: Pads) -> str:
    """Return equal padding at both sides as the argument of torch: 1, or (1, 2) for axes with different padding."""
    sides = tuple(before for before, _ in pads)
    return str(sides[0] if len(set(sides)) == 1 else sides)
