"""Operations along axes: sums, extremes, norms, sorting, running sums. The axes are moved in the arguments."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import (
    as_float,
    axes_of,
    behind,
    converted,
    dims,
    is_float,
    number,
    without,
)
from keras3conv.builder.program.program import Order, Value, identity

_REDUCTIONS = {
    "all": "all",
    "amax": "amax",
    "amin": "amin",
    "any": "any",
    "max": "amax",
    "min": "amin",
    "sum": "sum",
}

_OF_FLOATS = {"logsumexp": "logsumexp", "mean": "mean", "std": "std", "var": "var"}

_EXTRA = {"std": "correction=0", "var": "correction=0"}
"""Keras divides by the number of values, torch by one less unless it is told otherwise."""

_ALONG = {"cumsum": "cumsum", "cumprod": "cumprod"}


def arguments(given: Value, axes: tuple[int, ...], keepdims: bool, extra: str = "") -> str:
    """The arguments of a reduction: "dim=(1, 2), keepdim=True"."""
    shown = [f"dim={dims(given, axes)}"]
    shown += ["keepdim=True"] if keepdims else []
    return ", ".join([*shown, extra] if extra else shown)


def order_after(given: Value, axes: tuple[int, ...], keepdims: bool) -> Order:
    """The order of the axes that a reduction leaves."""
    return given.order if keepdims else without(given.order, axes)


def reduced(call: Call, given: Value, method: str, extra: str = "", after: str = "") -> None:
    """Writes a reduction by a method of tensors."""
    axes, keepdims = _axes(call, given), bool(call.get("keepdims"))
    template = f"{{0}}.{method}({arguments(given, axes, keepdims, extra)}){after}"
    call.returns(template, [given], order_after(given, axes, keepdims))


def _axes(call: Call, given: Value) -> tuple[int, ...]:
    if call.get("axis") in ((), []):
        raise call.refuse("without an axis Keras' backends return different things")
    return axes_of(call.get("axis"), given.rank)


def _reduction(call: Call, *, method: str) -> None:
    given, made = call.tensor, call.node.outputs[0].dtype
    initial = call.get("initial")
    after = f".clamp({'min' if method == 'amax' else 'max'}={number(initial)})" if initial is not None else ""
    whole = method == "sum" and not is_float(given) and made != "int64"
    reduced(call, given, method, f"dtype=torch.{made}" if whole else "", after)


def _reduction_of_floats(call: Call, *, method: str) -> None:
    given = as_float(call, call.tensor)
    reduced(call, given, method, _EXTRA.get(method, ""))


for _kind, _method in _REDUCTIONS.items():
    handles(f"keras.ops.{_kind}")(partial(_reduction, method=_method))
for _kind, _method in _OF_FLOATS.items():
    handles(f"keras.ops.{_kind}")(partial(_reduction_of_floats, method=_method))


def in_a_row(call: Call, given: Value, axes: tuple[int, ...]) -> Value:
    """The value with some axes as one, at its end."""
    given = call.order(given, behind(given.order, axes))
    if len(axes) == 1:
        return given
    kept = [axis for axis in range(given.rank) if axis not in axes]
    order = (*without(given.order, axes), len(kept))
    if not kept:
        return call.step("{0}.flatten()", [given], shape=(call_size(given, axes),), order=(0,))
    shape = (*(given.shape[axis] for axis in kept), call_size(given, axes))
    return call.step(f"{{0}}.flatten({len(kept)})", [given], shape=shape, order=order)


def call_size(given: Value, axes: tuple[int, ...]) -> int:
    """How many values some axes have; 0 where that is free, for what is only reduced afterwards."""
    product = 1
    for axis in axes:
        size = given.shape[axis]
        product *= size if isinstance(size, int) else 0
    return product


def reduced_in_a_row(call: Call, given: Value, template: str) -> None:
    """Writes a reduction that torch has for one axis only."""
    axes, keepdims = _axes(call, given), bool(call.get("keepdims"))
    order = without(given.order, axes)
    row = in_a_row(call, given, axes)
    if not keepdims:
        call.returns(template, [row], order)
        return
    index = ", ".join(("...", *("None",) * len(axes)))
    kept = [axis for axis in given.order if axis not in axes]
    call.returns(f"{template}[{index}]", [row], (*kept, *axes))


@handles("keras.ops.prod")
def _prod(call: Call) -> None:
    given, made = call.tensor, call.node.outputs[0].dtype
    shown = "" if is_float(given) or made == "int64" else f", dtype=torch.{made}"
    reduced_in_a_row(call, given, f"{{0}}.prod(-1{shown})")


@handles("keras.ops.median")
def _median(call: Call) -> None:
    """Keras takes the mean of the two values in the middle, torch's own median the lower one."""
    reduced_in_a_row(call, as_float(call, call.tensor), "{0}.quantile(0.5, dim=-1)")


@handles("keras.ops.quantile", "keras.ops.percentile")
def _quantile(call: Call) -> None:
    level, method = call["q"], call["method"]
    if not isinstance(level, int | float):
        raise call.refuse("more than one quantile at a time is not supported")
    if method != "linear":
        raise call.refuse(f"method={method!r} is lost by Keras in a model, which interpolates linearly all the same")
    level = level / 100 if call.node.kind.endswith("percentile") else level
    reduced_in_a_row(call, as_float(call, call.tensor), f"{{0}}.quantile({level!r}, dim=-1)")


@handles("keras.ops.ptp")
def _ptp(call: Call) -> None:
    given = call.tensor
    axes, keepdims = _axes(call, given), bool(call["keepdims"])
    shown = arguments(given, axes, keepdims)
    call.returns(f"{{0}}.amax({shown}) - {{0}}.amin({shown})", [given], order_after(given, axes, keepdims))


@handles("keras.ops.count_nonzero")
def _count_nonzero(call: Call) -> None:
    given = call.tensor
    axes = _axes(call, given)
    if given.rank - len(axes) > 1:
        raise call.refuse("on Keras' torch backend the axes that stay are in reverse order, on the others they are not")
    call.returns(f"{{0}}.count_nonzero(dim={dims(given, axes)}).to(torch.int32)", [given], without(given.order, axes))


@handles("keras.ops.average")
def _average(call: Call) -> None:
    given, weights = as_float(call, call["x"]), call["weights"]
    axes = _axes(call, given)
    if weights is None:
        call.returns(f"{{0}}.mean({arguments(given, axes, False)})", [given], without(given.order, axes))
        return
    if not isinstance(weights, Value) or axes != (given.rank - 1,):
        raise call.refuse("weights for other axes than the last are summed differently by Keras' backends")
    left = without(weights.order, (weights.rank - 1,))
    total = call.step(f"{{0}}.sum(dim={weights.place(-1)})", [weights], shape=weights.shape[:-1], order=left)
    (given, weights), order = call.aligned([given, weights])
    total = call.order(total, without(order, axes)) if total.rank > 1 else total
    call.returns(f"({{0}} * {{1}}).sum(dim={given.place(-1)}) / {{2}}", [given, weights, total], without(order, axes))


@handles("keras.ops.norm")
def _norm(call: Call) -> None:
    given, kind = as_float(call, call["x"]), call["ord"]
    axes, keepdims = _axes(call, given), bool(call["keepdims"])
    order = order_after(given, axes, keepdims)
    whole = kind is None or (kind == 2 and len(axes) == 1) or (kind == "fro" and len(axes) == 2)
    if whole or len(axes) == 1:
        level = "" if whole else f"{number(kind)}, "
        call.returns(f"torch.linalg.vector_norm({{0}}, {level}{arguments(given, axes, keepdims)})", [given], order)
        return
    if len(axes) != 2:
        raise call.refuse(f"ord={kind!r} needs one axis or two")
    pair = f"({given.place(axes[0])}, {given.place(axes[1])})"
    level = f'"{kind}"' if isinstance(kind, str) else number(kind)
    kept = ", keepdim=True" if keepdims else ""
    call.returns(f"torch.linalg.matrix_norm({{0}}, {level}, dim={pair}{kept})", [given], order)


@handles("keras.ops.normalize")
def _normalize(call: Call) -> None:
    """Keras limits the inverse of the norm, not the norm; above the limit that is the same."""
    given, level = call["x"], call["order"]
    axes = _axes(call, given)
    epsilon = 1e-7 if call["epsilon"] is None else call["epsilon"]
    if level != 2 and len(axes) > 1:
        raise call.refuse(f"order={level} over several axes is a norm of matrices in Keras, and is not supported")
    shown = "" if level == 2 else f"p={number(level)}, "
    call.returns(f"F.normalize({{0}}, {shown}dim={dims(given, axes)}, eps={epsilon!r})", [given], given.order)


@handles("keras.ops.softmax", "keras.ops.log_softmax", "keras.layers.Softmax")
def _softmax(call: Call) -> None:
    given, mask = call.tensor, call.get("mask")
    axes = axes_of(call.get("axis", -1), given.rank)
    log = call.node.kind.endswith("log_softmax")
    if mask is not None:
        _masked_softmax(call, given, mask, axes)
    elif len(axes) == 1:
        call.returns(f"F.{'log_' * log}softmax({{0}}, dim={dims(given, axes)})", [given], given.order)
    else:
        logarithm = f"{{0}} - {{0}}.logsumexp({arguments(given, axes, True)})"
        call.returns(logarithm if log else f"torch.exp({logarithm})", [given], given.order)


def _masked_softmax(call: Call, given: Value, mask: Value, axes: tuple[int, ...]) -> None:
    """What is hidden is nothing, in a row in which all is hidden, too."""
    if len(axes) > 1:
        raise call.refuse("a mask with several axes is not supported")
    mask = mask if mask.dtype == "bool" else call.step("{0} > 0.5", [mask], dtype="bool")
    (given, mask), order = call.aligned([given, mask])
    seen = call.step("torch.where({1}, {0}, -1e9)", [given, mask])
    call.returns(f"torch.where({{1}}, F.softmax({{0}}, dim={dims(given, axes)}), 0.0)", [seen, mask], order)


@handles("keras.ops.sparsemax", "keras.activations.sparsemax")
def _sparsemax(call: Call) -> None:
    """As Keras computes it: its limit is made of the sum of the running sums, that of the paper of the last of them."""
    given = call.tensor
    place = dims(given, axes_of(call.get("axis", -1), given.rank))
    ordered = call.step(f"{{0}}.sort(dim={place}, descending=True).values", [given])
    sums = call.step(f"{{0}}.cumsum(dim={place})", [ordered])
    ranks = call.step(f"torch.ones_like({{0}}).cumsum(dim={place})", [given])
    chosen = call.step("{0} * {1} > {2} - 1", [ordered, ranks, sums], dtype="bool")
    shown = f"sum(dim={place}, keepdim=True)"
    limit = call.step(f"(({{0}} * {{1}}).{shown} - 1) / {{1}}.{shown}", [sums, chosen])
    call.returns("F.relu({0} - {1})", [given, limit], given.order)


@handles("keras.ops.glu")
def _glu(call: Call) -> None:
    given = call.tensor
    call.returns(f"F.glu({{0}}, dim={given.place(call['axis'])})", [given], given.order)


@handles("keras.ops.argmax", "keras.ops.argmin")
def _argmax(call: Call) -> None:
    given, name = call.tensor, call.node.kind.rpartition(".")[2]
    given = converted(call, given, "uint8") if given.dtype == "bool" else given
    if call["axis"] is None:
        given = call.keras_order(given)
        order = identity(given.rank if call["keepdims"] else 0)
        kept = "keepdim=True" if call["keepdims"] else ""
        call.returns(f"{{0}}.{name}({kept}).to(torch.int32)", [given], order)
        return
    reduced(call, given, name, after=".to(torch.int32)")


def _along(call: Call, *, method: str) -> None:
    given, made = call.tensor, call.node.outputs[0].dtype
    shown = "" if made == given.dtype and is_float(given) else f", dtype=torch.{made}"
    if is_float(given) and made == "float32":
        shown = ""
    if call["axis"] is None:
        flat = call.step("{0}.flatten()", [call.keras_order(given)], shape=call.node.outputs[0].shape, order=(0,))
        call.returns(f"{{0}}.{method}(dim=0{shown})", [flat])
        return
    call.returns(f"{{0}}.{method}(dim={given.place(call['axis'])}{shown})", [given], given.order)


for _kind, _method in _ALONG.items():
    handles(f"keras.ops.{_kind}")(partial(_along, method=_method))


@handles("keras.ops.sort", "keras.ops.argsort")
def _sort(call: Call) -> None:
    given, axis = call.tensor, call["axis"]
    given = converted(call, given, "uint8") if given.dtype == "bool" and "arg" in call.node.kind else given
    if axis is None:
        given = call.step("{0}.flatten()", [call.keras_order(given)], shape=call.node.outputs[0].shape, order=(0,))
        axis = 0
    place = given.place(axis)
    if "arg" in call.node.kind:
        call.returns(f"{{0}}.argsort(dim={place}, stable=True).to(torch.int32)", [given], given.order)
    else:
        call.returns(f"{{0}}.sort(dim={place}).values", [given], given.order)


@handles("keras.ops.top_k")
def _top_k(call: Call) -> None:
    given, place = call.tensor, call.tensor.place(-1)
    shape = call.node.outputs[0].shape
    count = "" if call["sorted"] else ", sorted=False"
    found = call.steps(
        f"{{0}}.topk({call['k']}, dim={place}{count})",
        [given],
        [(shape, given.order, given.dtype), (shape, given.order, "int64")],
    )
    call.passes_all([found[0], converted(call, found[1], "int32")])


@handles("keras.ops.moments")
def _moments(call: Call) -> None:
    given, keepdims = as_float(call, call["x"]), bool(call["keepdims"])
    if call["synchronized"]:
        raise call.refuse("synchronized=True is not supported")
    axes = axes_of(call["axes"], given.rank)
    shown, order = arguments(given, axes, keepdims), order_after(given, axes, keepdims)
    shape = call.node.outputs[0].shape
    found = [
        call.step(f"{{0}}.{method}({shown}{extra})", [given], shape=shape, order=order)
        for method, extra in (("mean", ""), ("var", ", correction=0"))
    ]
    call.passes_all(found)


@handles("keras.ops.diff")
def _diff(call: Call) -> None:
    given = call["a"]
    call.returns(f"{{0}}.diff(n={call['n']}, dim={given.place(call['axis'])})", [given], given.order)


@handles("keras.ops.nansum", "keras.ops.nanmean")
def _without_gaps(call: Call) -> None:
    given = call.tensor
    if not is_float(given):
        raise call.refuse("of whole numbers is not supported")
    reduced(call, given, call.node.kind.rpartition(".")[2])
