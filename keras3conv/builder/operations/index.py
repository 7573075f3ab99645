"""Operations that pick values by where they are: slices, indices, one-hot rows, triangles, diagonals."""

from dataclasses import replace
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import axes_of, converted, dtype_name, fixed, is_float, number, without
from keras3conv.builder.operations.indexing import full_key, sliced
from keras3conv.builder.program.program import Value, identity
from keras3conv.model.graph import Size


@handles("keras.ops.get_item")
def _get_item(call: Call) -> None:
    given, key = call["x"], call["key"]
    if isinstance(key, list) and any(part is None or part is Ellipsis or isinstance(part, slice) for part in key):
        key = tuple(key)  # what Keras makes of it in a file
    template, order = sliced(call, given, full_key(call, key, given.rank))
    call.passes(given, order) if template == "{0}" else call.returns(template, [given], order)


def _picked(call: Call, given: Value, indices: Any, axis: int) -> None:
    """The values at some indices of one axis; the axes of the indices stand where that axis stood."""
    place = given.place(axis)
    front = ":, " * place
    if isinstance(indices, int):
        call.returns(
            f"{{0}}[{front}{indices}]" if place else f"{{0}}[{indices}]", [given], without(given.order, (axis,))
        )
        return
    if not isinstance(indices, Value):
        shown, count, inner, inputs = str(_plain(call, indices)), _rank(indices), identity(_rank(indices)), [given]
    else:
        shown, count, inner, inputs = "{1}", indices.rank, indices.order, [given, indices]
        if is_float(indices) or indices.dtype == "bool":
            shown = "{1}.long()"
    moved = [old + (count - 1) * (old > axis) for old in given.order]
    order = (*moved[:place], *(axis + one for one in inner), *moved[place + 1 :])
    call.returns(f"{{0}}[{front}{shown}]", inputs, order)


def _rank(indices: Any) -> int:
    return 1 + _rank(indices[0]) if isinstance(indices, tuple | list) else 0


def _plain(call: Call, indices: Any) -> Any:
    """A list of whole numbers, as Python writes it."""
    if isinstance(indices, tuple | list):
        return [_plain(call, one) for one in indices]
    if not isinstance(indices, int):
        raise call.refuse("indices must be numbers or a tensor")
    return indices


@handles("keras.ops.take")
def _take(call: Call) -> None:
    given, axis = call["x"], call["axis"]
    if axis is None:
        given = call.step("{0}.flatten()", [call.keras_order(given)], shape=(0,), order=(0,))
        axis = 0
    _picked(call, given, call["indices"], axis % given.rank)


@handles("keras.ops.take_along_axis")
def _take_along_axis(call: Call) -> None:
    """Indices from the end are negative in Keras and none in torch."""
    given, indices, axis = call["x"], call["indices"], call["axis"]
    if not isinstance(indices, Value):
        raise call.refuse("indices that are no tensor are not supported")
    if axis is None:
        given, indices = (
            call.step("{0}.flatten()", [call.keras_order(one)], shape=(0,), order=(0,)) for one in (given, indices)
        )
        axis = 0
    (given, indices), order = call.aligned([given, indices])
    place = given.place(axis)
    template = f"torch.take_along_dim({{0}}, {{1}}.long() % {{0}}.shape[{place}], dim={place})"
    call.returns(template, [given, indices], order)


@handles("keras.ops.slice")
def _slice(call: Call) -> None:
    given, order = call["inputs"], call["inputs"].order
    starts = _starts(call)
    key = [
        slice(start, None if size == -1 else _shifted(size, start))
        for start, size in zip(starts, call["shape"], strict=True)
    ]
    template, order = sliced(call, given, [_whole(one, size) for one, size in zip(key, given.shape, strict=True)])
    call.returns(template, [given], order)


def _shifted(size: int | Size, start: int) -> int | Size:
    return size + start if isinstance(size, int) else replace(size, offset=size.offset + start)


def _whole(one: slice, size: int | Size) -> slice:
    return slice(None, None, None) if one.start == 0 and one.stop in (None, size) else one


def _starts(call: Call) -> list[int]:
    starts = call["start_indices"]
    if not isinstance(starts, tuple | list) or not all(isinstance(start, int) for start in starts):
        raise call.refuse("where it starts depends on the inputs")
    return list(starts)


@handles("keras.ops.slice_update")
def _slice_update(call: Call) -> None:
    starts = _starts(call)
    (given, updates), order = call.aligned([call["inputs"], call["updates"]])
    partial = [axis for axis in range(given.rank) if updates.shape[axis] != given.shape[axis]]
    if not partial:
        call.passes(updates)
        return
    template = _scattered(call, "{0}", partial, starts, given, updates)
    call.returns(template, [given, updates], order)


def _scattered(call: Call, whole: str, axes: list[int], starts: list[int], given: Value, updates: Value) -> str:
    """The value with the updates in it: along the first axis what replaces a slice is that slice, updated."""
    axis, place = axes[0], given.place(axes[0])
    end = starts[axis] + fixed(call, updates.shape[axis], "the size of the update")
    inside = f"{whole}[{':, ' * place}{starts[axis]}:{end}]"
    inner = _scattered(call, inside, axes[1:], starts, given, updates) if len(axes) > 1 else "{1}"
    return f"{whole}.slice_scatter({inner}, {place}, {starts[axis]}, {end})"


@handles("keras.ops.scatter")
def _scatter(call: Call) -> None:
    indices, values = call.keras_order(call["indices"]), call.keras_order(call["values"])
    shape = call.node.outputs[0].shape
    zeros = f"{{1}}.new_zeros({call.sizes(shape)})"
    call.returns(f"{zeros}.index_put({{0}}.long().unbind(-1), {{1}}, accumulate=True)", [indices, values])


@handles("keras.ops.scatter_update")
def _scatter_update(call: Call) -> None:
    if call["reduction"] is not None:
        raise call.refuse(f"reduction={call['reduction']!r} is not supported")
    given, indices, updates = (call.keras_order(call[name]) for name in ("inputs", "indices", "updates"))
    call.returns("{0}.index_put({1}.long().unbind(-1), {2})", [given, indices, updates])


@handles("keras.ops.one_hot")
def _one_hot(call: Call) -> None:
    """Torch's own refuses numbers that are no class; in Keras their row is empty."""
    given, made = call["x"], call.node.outputs[0].dtype
    axis = call["axis"] % (given.rank + 1)
    order = (*(old + (old >= axis) for old in given.order), axis)
    template = f"{{0}}.unsqueeze(-1) == torch.arange({call['num_classes']}, device={{0}}.device)"
    if made != "bool":
        template = f"({template}).to({dtype_name(call, made)})"
    call.returns(template, [given], order)


@handles("keras.ops.multi_hot")
def _multi_hot(call: Call) -> None:
    """The classes of each row: those that any value along the axis behind the batch is."""
    given, axis = call.keras_order(call["inputs"]), call["axis"]
    if axis not in (-1, given.rank):
        raise call.refuse(f"axis={axis} is not supported")
    summed = 1 if given.rank > 1 else 0
    template = f"({{0}}.unsqueeze(-1) == torch.arange({call['num_classes']}, device={{0}}.device)).any({summed})"
    call.returns(f"{template}.to({dtype_name(call, call['dtype'] or 'float32')})", [given])


@handles("keras.ops.tril", "keras.ops.triu")
def _triangle(call: Call) -> None:
    """Of an image whose last two axes change places in torch, the triangle changes sides."""
    given, name, offset = call["x"], call.node.kind.rpartition(".")[2], call["k"]
    rank = given.rank
    if given.order[-2:] == (rank - 1, rank - 2):
        name, offset = ("triu" if name == "tril" else "tril"), -offset
    elif given.order[-2:] != (rank - 2, rank - 1):
        given = call.keras_order(given)
    call.returns(f"{{0}}.{name}({offset or ''})", [given], given.order)


@handles("keras.ops.diagonal", "keras.ops.trace")
def _diagonal(call: Call) -> None:
    given = call["x"]
    axes = axes_of((call["axis1"], call["axis2"]), given.rank)
    first, second = (given.place(axis) for axis in axes)
    kept = without(given.order, axes)
    template = f"{{0}}.diagonal({call['offset']}, {first}, {second})"
    if call.node.kind.endswith("diagonal"):
        call.returns(template, [given], (*kept, len(kept)))
        return
    made = call.node.outputs[0].dtype
    call.returns(f"{template}.sum(-1{'' if is_float(given) else f', dtype=torch.{made}'})", [given], kept)


@handles("keras.ops.diag")
def _diag(call: Call) -> None:
    given = call.keras_order(call["x"])
    call.returns(f"{{0}}.diag({call['k'] or ''})", [given])


@handles("keras.ops.diagflat")
def _diagflat(call: Call) -> None:
    given = call.keras_order(call["x"])
    call.returns(f"torch.diagflat({{0}}, {call['k']})", [given])


@handles("keras.ops.digitize")
def _digitize(call: Call) -> None:
    given, bins = call["x"], call["bins"]
    if isinstance(bins, Value):
        call.returns("torch.bucketize({0}, {1}, right=True).to(torch.int32)", [given, bins], given.order)
        return
    shown = f"torch.tensor([{', '.join(map(number, bins))}], device={{0}}.device)"
    call.returns(f"torch.bucketize({{0}}, {shown}, right=True).to(torch.int32)", [given], given.order)


@handles("keras.ops.searchsorted")
def _searchsorted(call: Call) -> None:
    line, given = call["sorted_sequence"], call["values"]
    if not isinstance(line, Value) or not isinstance(given, Value):
        raise call.refuse("a number in the place of a tensor is not supported")
    call.returns(f'torch.searchsorted({{0}}, {{1}}, side="{call["side"]}").to(torch.int32)', [line, given], given.order)


@handles("keras.ops.isin")
def _isin(call: Call) -> None:
    given, others = call["x1"], call["x2"]
    inverted = ", invert=True" if call["invert"] else ""
    if isinstance(others, Value):
        call.returns(f"torch.isin({{0}}, {{1}}{inverted})", [given, others], given.order)
        return
    shown = _plain(call, others)
    call.returns(f"torch.isin({{0}}, torch.tensor({shown}, device={{0}}.device){inverted})", [given], given.order)


@handles("keras.ops.segment_sum")
def _segment_sum(call: Call) -> None:
    if call["num_segments"] is None:
        raise call.refuse("without num_segments the size of what it returns depends on the values")
    data, segments = call.keras_order(call["data"]), converted(call, call["segment_ids"], "int64")
    zeros = f"{{0}}.new_zeros({call.sizes(call.node.outputs[0].shape)})"
    call.returns(f"{zeros}.index_add(0, {{1}}, {{0}})", [data, segments])
