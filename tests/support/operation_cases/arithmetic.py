"""Cases of operations that broadcast: scalars on either side, fewer axes, axes of size one, integers."""

from keras import ops

from tests.support.operations import IMAGE, VECTOR, Case, Function, Given, case, named

_WHOLE = Given(IMAGE, "int32", 1, 5)
_FLAGS = Given(IMAGE, "bool")
_POSITIVE = Given(IMAGE, low=0.2)
_NUMBERS = ("add", "divide", "floor_divide", "maximum", "minimum", "mod", "multiply", "power", "subtract")
_COMPARISONS = ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal")
_OTHERS = (
    "arctan2",
    "fmax",
    "fmin",
    "fmod",
    "heaviside",
    "hypot",
    "logaddexp",
    "logaddexp2",
    "nextafter",
    "true_divide",
)
_BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm")
_SHIFTS = ("bitwise_left_shift", "bitwise_right_shift", "left_shift", "right_shift")


def _of_two(function: Function) -> list[Case]:
    return [
        case(function, _POSITIVE, IMAGE),
        case(lambda x, y: function(x, ops.max(y, axis=0)), _POSITIVE, (5, 4)),
    ]


def _with_numbers(function: Function, least: Given) -> list[Case]:
    return [
        case(lambda x: function(x, -1.5), least),
        case(lambda x: function(1.5, x), _POSITIVE),
        case(lambda x, y: function(ops.min(y, axis=0), x), IMAGE, Given((5, 4), low=0.3)),
        case(function, Given((6, 1, 4), low=0.2), (1, 5, 1)),
        case(function, _WHOLE, _WHOLE),
        case(function, _WHOLE, IMAGE),
    ]


def _shifts(function: Function) -> list[Case]:
    return [case(lambda x: function(x, 2), _WHOLE), case(function, _WHOLE, _WHOLE)]


CASES: dict[str, list[Case]] = {name: _of_two(named(name)) for name in (*_NUMBERS, *_COMPARISONS, *_OTHERS)}
for _name in (*_NUMBERS, *_COMPARISONS):
    CASES[_name] += _with_numbers(named(_name), _WHOLE if _name == "mod" else _POSITIVE)
for _name in _BITS:
    CASES[_name] = [case(named(_name), _WHOLE, Given((6, 5, 1), "int32", 1, 7))]
for _name in _SHIFTS:
    CASES[_name] = _shifts(named(_name))
for _name in ("logical_and", "logical_or", "logical_xor"):
    CASES[_name] = [case(named(_name), _FLAGS, Given((6, 5, 1), "bool")), case(named(_name), _FLAGS, IMAGE)]

CASES["power"].append(case(lambda x: -(2**x), Given(IMAGE, "int32", 0, 3)))
CASES["subtract"] += [case(lambda x: 1 - x, _FLAGS), case(named("subtract"), _FLAGS, IMAGE)]
CASES["add"].append(case(lambda x, y: x + y[:, None, None], IMAGE, VECTOR))
CASES["divide_no_nan"] = [
    case(named("divide_no_nan"), IMAGE, Given(IMAGE, "int32", 0, 1)),
    case(lambda x, y: ops.divide_no_nan(x, ops.relu(y)), IMAGE, IMAGE),
]
CASES["ldexp"] = [case(named("ldexp"), IMAGE, Given(IMAGE, "int32", -3, 3))]
CASES["isclose"] = [case(named("isclose", rtol=0.5), IMAGE, IMAGE)]
CASES["where"] = [
    case(lambda x, y: ops.where(x > 0, x, y), IMAGE, IMAGE),
    case(lambda x: ops.where(x > 0, 1.0, 0.0), IMAGE),
    case(lambda x: ops.where(x > 0, 1, 0), IMAGE),
    case(lambda c, x: ops.where(c, x, -1.0), Given(IMAGE, "int32", 0, 1), IMAGE),
    case(lambda c, x: ops.where(c, ops.max(x), x), Given((6, 1, 4), "bool"), IMAGE),
]
CASES["select"] = [case(lambda x, y: ops.select([x > 1, y > 0], [x, y], 0.5), IMAGE, (6, 1, 4))]
CASES["isin"] = [case(named("isin"), Given(IMAGE, "int32"), Given((1,), "int32"))]
