"""Convert operators that are layers in Keras: linear layers, embeddings, and activations with weights."""

from dataclasses import replace
from typing import Any

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.broadcasting import elementwise, sign
from keras3conv.builder.to_keras.call import Call, LayerCall, Placed, Result, handles, ops
from keras3conv.builder.to_keras.forms import Held
from keras3conv.builder.to_keras.operations_axes import permuted, reshaped, unmerged
from keras3conv.builder.to_keras.operations_indexing import taken
from keras3conv.builder.to_keras.operations_products import matmul
from keras3conv.builder.to_keras.uses import puts_last_axis_first
from keras3conv.errors import RuleError
from keras3conv.model.graph import Tensor
from keras3conv.transforms import Axes, Same


@handles("linear")
def _linear(call: Call) -> Result:
    given = call.value("input")
    if not call.is_held("weight") or given.rank < 2:
        return _product(call, given)
    if not call.is_held("bias"):
        made = _linear(Call(call.node, {**call.arguments, "bias": None}, call.writer))
        return elementwise(call, [made, call.arguments["bias"]], lambda one, other: sign(call, "+", one, other))
    weight = call.held("weight")
    assert weight is not None
    config = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "bias": call.get("bias") is not None,
        "flattened": given.flattened or None,
    }
    if (order := _order_of_einsum(call, given)) is not None:
        return _einsum_layer(call, given, weight, order)
    given = unmerged(call, given)
    tensors = {role: held for role in ("weight", "bias") if (held := call.held(role)) is not None}
    order = last_axes_in_place(given, 1)
    layer = LayerCall(kind="torch.nn.Linear", keras=("Dense",), config=config, tensors=tensors, order=order)
    made_of = Tensor(name=call.node.outputs[0].name, shape=(*given.shape[:-1], weight.shape[0]))
    return reshaped(call, call.writer.by_rule(layer, given, made_of), call.shape)


def _order_of_einsum(call: Call, tensor: Value) -> Order | None:
    """Return the axis order of the output of a linear layer that becomes an `EinsumDense`; None for a `Dense`.

    It becomes an `EinsumDense` if the last axis of its output is used as the first axis, as in a table of positions, or
    if the axis that the layer sums over is not last in Keras, as in a mixer of tokens.
    """
    last = tensor.rank - 1
    if tensor.flattened or tensor.rank < 3 or tensor.order[0] != 0:
        return None
    if tensor.shape[0] == 1 and tensor.order == identity(tensor.rank) and puts_last_axis_first(call):
        return (0, last, *range(1, last))
    return tensor.order if tensor.order[-1] != last else None


def _einsum_layer(call: Call, tensor: Value, weight: Held, order: Order) -> Value:
    """Convert a linear layer to an `EinsumDense` with a given axis order of its output."""
    axes, last = "abcdefgh"[: tensor.rank], tensor.rank - 1
    made = "".join("z" if axis == last else axes[axis] for axis in order)
    sizes = tuple(call.shape[axis] if isinstance(call.shape[axis], int) else None for axis in order[1:])
    config = {
        "equation": f"{''.join(axes[axis] for axis in tensor.order)},{axes[last]}z->{made}",
        "output_shape": sizes,
    }
    placed = [Placed(role="kernel", held=weight, transform=Axes("o i -> i o"))]
    if (bias := call.held("bias")) is not None:
        config["bias_axes"] = "z"
        ones = " 1" * (last - order.index(last))
        placed.append(Placed(role="bias", held=bias, transform=Axes(f"o -> o{ones}")))
    result = call.writer.new(call.shape, order, call.dtype)
    call.writer.layer("keras.layers.EinsumDense", config, tensor, placed, weight.owner or weight.path, result)
    return result


def _product(call: Call, tensor: Value) -> Value:
    """Convert a linear layer to a matrix product, because no layer can own its weight, which is computed or shared."""
    weight = call.value("weight")
    if tensor.flattened:
        weight = _for_flattened(call, weight, tensor.flattened)
    made = matmul(call, tensor, permuted(weight, (1, 0)), call.shape)
    bias = call.get("bias")
    return (
        made if bias is None else elementwise(call, [made, bias], lambda first, second: sign(call, "+", first, second))
    )


def _for_flattened(call: Call, weight: Value, sizes: tuple[int, ...]) -> Value:
    """Return the weight of a linear layer with its columns in the order in which Keras flattened the input.

    Args:
        call: The call.
        weight: The weight, with the columns in torch's order.
        sizes: The shape of an example in torch, (channels, *space), before it was flattened.
    """
    shape = (*weight.shape[:1], *sizes)
    apart = call.step(ops.reshape(call.ordered(weight, (0, 1)), shape), shape, dtype=weight.dtype)
    moved = call.ordered(apart, (0, *range(2, len(shape)), 1))
    return call.step(ops.reshape(moved, weight.shape), weight.shape, dtype=weight.dtype)


@handles("addmm")
def _addmm(call: Call) -> Result:
    """Convert a linear layer whose weight has the shape (in, out), as in GPT-2."""
    if call.get("beta", 1) != 1 or call.get("alpha", 1) != 1:
        raise RuleError("addmm is supported only with beta=1 and alpha=1")
    given = call.value("mat1")
    weight, bias = call.arguments["mat2"], call.arguments["self"]
    is_layer = call.is_held("mat2") and call.is_held("self") and isinstance(weight, Held) and isinstance(bias, Held)
    if not is_layer or len(bias.shape) != 1:
        made = matmul(call, given, call.value("mat2"), call.shape)
        return elementwise(call, [made, bias], lambda first, second: sign(call, "+", first, second))
    config = {"nf": weight.shape[1], "nx": weight.shape[0]}
    tensors = {"weight": weight, "bias": bias}
    kind = "transformers.pytorch_utils.Conv1D"
    given = unmerged(call, given)
    made_of = Tensor(name=call.node.outputs[0].name, shape=(*given.shape[:-1], weight.shape[1]))
    order = last_axes_in_place(given, 1)
    layer = LayerCall(kind=kind, keras=("Dense",), config=config, tensors=tensors, order=order)
    return reshaped(call, call.writer.by_rule(layer, given, made_of), call.shape)


_EMBEDDING = "torch.nn.Embedding <-> keras.layers.Embedding"


@handles("embedding")
def embedded(call: Call) -> Result:
    """Convert an embedding, to an `Embedding` layer if its table is a parameter, and return the selected rows."""
    indices = call.arguments["indices"]
    if call.is_held("weight") and isinstance(indices, Value):
        weight = call.held("weight")
        assert weight is not None
        config = {"input_dim": weight.shape[0], "output_dim": weight.shape[1]}
        made = call.writer.new(call.shape, (*indices.order, indices.rank), "float32")
        placed = [Placed(role="embeddings", held=weight, transform=Same(), rule=_EMBEDDING)]
        call.writer.layer("keras.layers.Embedding", config, indices, placed, weight.owner or weight.path, made)
        return made
    width = call.arguments["weight"].shape[1]
    return taken(call, call.arguments["weight"], 0, indices, (*indices.shape, width))


@handles("prelu")
def _prelu(call: Call) -> Result:
    given, weight = call.value("self"), call.held("weight")
    assert weight is not None
    order = call.writer.image_order(given.rank)
    layer = LayerCall(
        kind="torch.nn.PReLU",
        keras=("PReLU",),
        config={"num_parameters": weight.shape[0]},
        tensors={"weight": weight},
        order=order,
    )
    if order == identity(given.rank) and given.rank > 2:
        raise RuleError('prelu in a model with channels="first" is not supported: convert with channels="last"')
    return call.writer.by_rule(layer, given, call.node.outputs[0])


@handles("one_hot")
def _one_hot(call: Call) -> Result:
    given = call.value("self")
    classes = call.get("num_classes", -1)
    if classes < 1:
        raise RuleError(
            "one_hot is supported only with num_classes: otherwise the size of the result depends on the data"
        )
    made = ops.one_hot(call.ordered(given, identity(given.rank)), classes, dtype=Dtype(call.dtype))
    return call.step(made)


_SUM, _MEAN, _MAXIMUM = 0, 1, 2
"""The modes of torch's `embedding_bag` as the operator numbers them: sum, mean, maximum."""


@handles("embedding_bag")
def _bag(call: Call) -> Result:
    if not call.get("has_rows", False):
        raise RuleError(
            "an embedding bag with offsets is not supported, because the sizes of the bags depend on their values: "
            "pass indices with two axes"
        )
    indices, width = call.value("indices"), call.arguments["weight"].shape[1]
    rows = Tensor(name=call.node.outputs[0].name, shape=(*indices.shape, width))
    value = call.writer.value(embedded(Call(replace(call.node, outputs=(rows,)), call.arguments, call.writer)))
    value = call.ordered(value, identity(3))
    if (factors := call.get("per_sample_weights")) is not None:
        scale = ops.expand_dims(call.ordered(factors, identity(2)), -1)
        value = call.step(value * scale, value.shape, dtype=value.dtype)
    padding = call.get("padding_idx", -1)
    kept = None if padding < 0 else _kept(call, indices, padding)
    made = _reduced(call, value, kept)
    return [call.step(made), *(None for _ in call.node.outputs[1:])]


def _kept(call: Call, indices: Value, padding: int) -> Value:
    """Return a mask of the rows of each bag: False where the index is `padding`, so that the bag leaves the row out."""
    plain = call.ordered(indices, identity(2))
    return call.step(ops.expand_dims(ops.not_equal(plain, padding), -1), (*plain.shape, 1), dtype="bool")


def _reduced(call: Call, value: Value, kept: Value | None) -> Any:
    """Return the expression for the sum, mean or maximum of the rows of each bag; an empty bag gives zero.

    Args:
        call: The call, which has the argument `mode`: sum, mean or max.
        value: The rows, along the second axis.
        kept: A mask of the rows that are reduced; None if all are.
    """
    mode = call.get("mode", _SUM)
    if kept is None:
        return ops.named(("sum", "mean", "max")[mode])(value, axis=1)
    if mode == _MAXIMUM:
        found = ops.max(ops.where(kept, value, float("-inf")), axis=1)
        return ops.where(ops.any(kept, axis=1), found, 0.0)
    number = ops.cast(kept, Dtype("float32"))
    total = ops.sum(value * number, axis=1)
    return total / ops.maximum(ops.sum(number, axis=1), 1.0) if mode == _MEAN else total


def last_axes_in_place(tensor: Value, count: int) -> Order:
    """Return an axis order for a value that ends with torch's last `count` axes, over which a normalization computes.

    The result is the order of the value if its last axes are these axes, else torch's order. Three or more axes are
    those of an image, whose channels the rules expect to be last.
    """
    if count > 2:
        first = tensor.rank - count
        return (*range(first), *range(first + 1, tensor.rank), first)
    last = tuple(range(tensor.rank - count, tensor.rank))
    return tensor.order if tensor.order[-count:] == last else identity(tensor.rank)
