"""Operations that treat every value alike, wherever its axes stand."""

from functools import partial
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import as_float, converted, dtype_name, is_float, number
from keras3conv.builder.program.program import Value

SOFTPLUS = "F.softplus({0}, threshold=40)"
"""Above its threshold torch returns the input itself: at its own 20 that is 2e-9 less, at 40 nothing."""

UNARY = {
    "absolute": "torch.abs({0})",
    "abs": "torch.abs({0})",
    "angle": "torch.angle({0})",
    "arccos": "torch.acos({0})",
    "arccosh": "torch.acosh({0})",
    "arcsin": "torch.asin({0})",
    "arcsinh": "torch.asinh({0})",
    "arctan": "torch.atan({0})",
    "arctanh": "torch.atanh({0})",
    "bitwise_invert": "~{0}",
    "bitwise_not": "~{0}",
    "cbrt": "torch.sign({0}) * torch.abs({0}) ** (1 / 3)",
    "cos": "torch.cos({0})",
    "cosh": "torch.cosh({0})",
    "deg2rad": "torch.deg2rad({0})",
    "erf": "torch.erf({0})",
    "erfc": "torch.erfc({0})",
    "erfinv": "torch.erfinv({0})",
    "exp": "torch.exp({0})",
    "exp2": "torch.exp2({0})",
    "expm1": "torch.expm1({0})",
    "hard_sigmoid": "F.hardsigmoid({0})",
    "hard_silu": "F.hardswish({0})",
    "hard_tanh": "F.hardtanh({0})",
    "i0": "torch.i0({0})",
    "isfinite": "torch.isfinite({0})",
    "isinf": "torch.isinf({0})",
    "isnan": "torch.isnan({0})",
    "isneginf": "torch.isneginf({0})",
    "isposinf": "torch.isposinf({0})",
    "isreal": "torch.isreal({0})",
    "log": "torch.log({0})",
    "log10": "torch.log10({0})",
    "log1p": "torch.log1p({0})",
    "log2": "torch.log2({0})",
    "log_sigmoid": "F.logsigmoid({0})",
    "logical_not": "torch.logical_not({0})",
    "negative": "-{0}",
    "rad2deg": "torch.rad2deg({0})",
    "reciprocal": "1 / {0}",
    "relu": "F.relu({0})",
    "relu6": "F.relu6({0})",
    "rsqrt": "torch.rsqrt({0})",
    "selu": "F.selu({0})",
    "sigmoid": "torch.sigmoid({0})",
    "sign": "torch.sign({0})",
    "signbit": "torch.signbit({0})",
    "silu": "F.silu({0})",
    "sin": "torch.sin({0})",
    "sinc": "torch.sinc({0})",
    "sinh": "torch.sinh({0})",
    "softplus": SOFTPLUS,
    "softsign": "F.softsign({0})",
    "sparse_plus": "torch.where({0} < 1, ({0} + 1).clamp(min=0) ** 2 / 4, {0})",
    "sparse_sigmoid": "(({0} + 1) / 2).clamp(0, 1)",
    "sqrt": "torch.sqrt({0})",
    "square": "{0} * {0}",
    "stop_gradient": "{0}.detach()",
    "tan": "torch.tan({0})",
    "tanh": "torch.tanh({0})",
    "tanh_shrink": "F.tanhshrink({0})",
}
"""Functions of one tensor without settings, by their names in `keras.ops`."""

_OF_FLOATS = {
    "ceil": "torch.ceil({0})",
    "fabs": "torch.abs({0})",
    "floor": "torch.floor({0})",
}
"""Functions that make floating-point numbers of whole ones in Keras, and leave them whole in torch."""

_WITH_SETTINGS = {
    "celu": ("F.celu({0}, ALPHA)", {"alpha": "ALPHA"}),
    "elu": ("F.elu({0}, ALPHA)", {"alpha": "ALPHA"}),
    "hard_shrink": ("F.hardshrink({0}, THRESHOLD)", {"threshold": "THRESHOLD"}),
    "leaky_relu": ("F.leaky_relu({0}, SLOPE)", {"negative_slope": "SLOPE"}),
    "soft_shrink": ("F.softshrink({0}, THRESHOLD)", {"threshold": "THRESHOLD"}),
    "squareplus": ("({0} + torch.sqrt({0} * {0} + B)) / 2", {"b": "B"}),
    "threshold": ("F.threshold({0}, THRESHOLD, OTHER)", {"threshold": "THRESHOLD", "default_value": "OTHER"}),
}


def unary(call: Call, *, template: str) -> None:
    """One value in, one value out, the axes as they stand."""
    _returns(call, template, call.tensor)


def _returns(call: Call, template: str, given: Value) -> None:
    call.returns(template, [given], given.order, flattened=given.flattened)


def _of_floats(call: Call, *, template: str) -> None:
    _returns(call, template, as_float(call, call.tensor))


def _with_settings(call: Call, *, template: str, settings: dict[str, str]) -> None:
    for name, mark in settings.items():
        value = call[name]
        if not isinstance(value, int | float):
            raise call.refuse(f"{name} must be a number")
        template = template.replace(mark, number(value))
    _returns(call, template, call.tensor)


for _kind, _template in UNARY.items():
    handles(f"keras.ops.{_kind}")(partial(unary, template=_template))
for _kind, _template in _OF_FLOATS.items():
    handles(f"keras.ops.{_kind}")(partial(_of_floats, template=_template))
for _kind, (_template, _settings) in _WITH_SETTINGS.items():
    handles(f"keras.ops.{_kind}")(partial(_with_settings, template=_template, settings=_settings))


@handles("keras.activations.relu")
def _relu(call: Call) -> None:
    """What is at or below the threshold is nothing, or the slope times its distance from it; the rest is limited."""
    slope, limit, threshold = (call.get(name) for name in ("negative_slope", "max_value", "threshold"))
    if slope and limit is None and not threshold:
        template = f"F.leaky_relu({{0}}, {number(slope)})"
    else:
        template = _positive_part(limit, threshold or 0)
        if slope:
            above = number(threshold) if threshold else "0"
            template = f"{template} - {number(slope)} * F.relu({above} - {{0}})"
    unary(call, template=template)


def _positive_part(limit: Any, threshold: float) -> str:
    if threshold:
        inside = f"torch.where({{0}} > {number(threshold)}, {{0}}, 0)"
        return inside if limit is None else f"{inside}.clamp(0, {limit!r})"
    if limit is None:
        return "F.relu({0})"
    return "F.relu6({0})" if limit == 6 else f"{{0}}.clamp(0, {limit!r})"


@handles("keras.ops.gelu")
def _gelu(call: Call) -> None:
    tanh = ', approximate="tanh"' if call["approximate"] else ""
    unary(call, template=f"F.gelu({{0}}{tanh})")


@handles("keras.ops.round")
def _round(call: Call) -> None:
    given, decimals = call.tensor, call["decimals"]
    if not is_float(given) and decimals >= 0:
        call.passes(given)
    else:
        _returns(call, f"torch.round({{0}}{f', decimals={decimals}' if decimals else ''})", given)


@handles("keras.ops.trunc")
def _trunc(call: Call) -> None:
    given = call.tensor
    call.passes(given) if not is_float(given) else _returns(call, "torch.trunc({0})", given)


@handles("keras.ops.nan_to_num")
def _nan_to_num(call: Call) -> None:
    names = ("nan", "posinf", "neginf")
    if any(isinstance(call[name], Value) for name in names):
        raise call.refuse("replacements that are tensors are not supported")
    shown = ", ".join(f"{name}={number(call[name])}" for name in names if call[name] is not None)
    unary(call, template=f"torch.nan_to_num({{0}}, {shown})")


@handles("keras.ops.convert_to_tensor", "keras.ops.cast", "keras.ops.array")
def _cast(call: Call) -> None:
    given, dtype = call.tensor, call.get("dtype")
    if dtype in (None, given.dtype):
        call.passes(given)
    else:
        call.returns(f"{{0}}.to({dtype_name(call, dtype)})", [given], given.order)


@handles("keras.ops.copy", "keras.ops.real", "keras.ops.conj", "keras.ops.conjugate")
def _same(call: Call) -> None:
    """Of real numbers: Keras has no complex input, and what makes complex numbers is refused."""
    call.passes(call.tensor)


@handles("keras.ops.ones_like", "keras.ops.zeros_like", "keras.ops.empty_like")
def _filled_like(call: Call) -> None:
    name = "ones_like" if call.node.kind.endswith("ones_like") else "zeros_like"
    given, dtype = call.tensor, call.get("dtype")
    shown = f", dtype={dtype_name(call, dtype)}" if dtype not in (None, given.dtype) else ""
    call.returns(f"torch.{name}({{0}}{shown})", [given], given.order)


@handles("keras.ops.full_like")
def _full_like(call: Call) -> None:
    given, value = call["x"], call["fill_value"]
    made = call.node.outputs[0].dtype
    if isinstance(value, Value):
        value = converted(call, value, made)
        if value.rank:
            raise call.refuse("what fills it must be one number")
        (value, like), order = call.aligned([value, given])
        call.returns("{0}.expand_as({1})", [value, like], order)
        return
    shown = f", dtype={dtype_name(call, made)}" if made != given.dtype else ""
    call.returns(f"torch.full_like({{0}}, {number(value)}{shown})", [given], given.order)
