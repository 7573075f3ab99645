"""Every operation of `keras.ops` is converted to torch with the same results, or refused with a reason.

`python tests/torch_backend/builder/test_operations.py` writes the table of operations.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import ops

import keras3conv as k3c
from keras3conv.builder.operations import library as handlers
from keras3conv.builder.operations.call import HANDLERS
from keras3conv.builder.operations.refused import REFUSED
from keras3conv.errors import UnsupportedLayerError
from keras3conv.frameworks.keras.tracing.composed import FUNCTIONS
from keras3conv.frameworks.torch.generated import instance_of
from keras3conv.rules.composed import CHOICES, COMPOSED, IMAGES, LOOPS, OTHERS
from tests.support.operation_cases import CASES
from tests.support.operation_cases.categories import LAYERS as CATEGORIES
from tests.support.operation_cases.composed import CASES as OF_SEVERAL
from tests.support.operation_cases.composed import ROUNDED
from tests.support.operation_cases.images import LAYERS
from tests.support.operation_cases.pointwise import RELU
from tests.support.operation_cases.reduction import SOFTMAX_LAYERS
from tests.support.operation_cases.spectra import LAYERS as SPECTRA
from tests.support.operations import IMAGE, SEQUENCE, VECTOR, Case, Given, case, converted, named

handlers.load()

TABLE = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
PREFIX = "keras.ops."

NO_CALLS: dict[str, str] = {
    **dict.fromkeys(
        ("bartlett", "blackman", "empty", "hamming", "hanning", "kaiser"),
        "is computed when the model is traced, and becomes a constant",
    ),
    **dict.fromkeys(("dtype", "is_tensor", "ndim", "shape", "size"), "is evaluated when the model is traced"),
    **dict.fromkeys(("hard_swish", "swish"), "is an alias of hard_silu, silu"),
    "scan": "is traced into the operations of its steps",
    **dict.fromkeys(CHOICES, "computes all functions, and chooses one of their results with `where`"),
    **dict.fromkeys(LOOPS, "calls its function for each part, if the number of parts is fixed"),
    **dict.fromkeys(
        (*OTHERS, *(f"image.{name}" for name in IMAGES)), "is computed with other functions of `keras.ops`"
    ),
    **dict.fromkeys(("custom_gradient", "vectorize"), "is traced into the operations that it calls"),
    "convert_to_numpy": "needs the values of a tensor, which a traced model does not have",
    "image.extract_patches_3d": "is refused: only patches of images are supported",
}
"""For each function of `keras.ops` that never becomes a node of a call graph: the reason why."""


def each(cases: dict[str, list[Case]]) -> list[Any]:
    """Return the cases as parameters; all but the first of each operation are slow, so `make test-fast` skips them."""
    return [
        pytest.param(one, id=f"{name}-{place}", marks=[pytest.mark.slow] if place else [])
        for name, listed in cases.items()
        for place, one in enumerate(listed)
    ]


@pytest.mark.filterwarnings("ignore:NotImplemented should not be used:DeprecationWarning")  # Keras' own tensordot
@pytest.mark.parametrize("one", each(CASES))
def test_an_operation_returns_the_same_in_torch_and_in_keras(one: Case) -> None:
    assert converted(one).differences() == []


@pytest.mark.parametrize("one", each(OF_SEVERAL))
def test_an_operation_that_is_written_with_others_returns_the_same_in_torch_and_in_keras(one: Case) -> None:
    assert converted(one).differences() == []


@pytest.mark.parametrize("one", each(ROUNDED))
def test_an_operation_with_a_rounded_constant_passes_validation(one: Case) -> None:
    report = k3c.convert(one.model()).report
    assert report is not None
    assert report.ok, str(report)


def test_every_operation_that_is_written_with_others_is_named_and_has_a_case() -> None:
    assert {*FUNCTIONS} == COMPOSED == {f"{PREFIX}{name}" for name in {**OF_SEVERAL, **ROUNDED}}


@pytest.mark.parametrize("one", [*RELU, *SOFTMAX_LAYERS, *LAYERS.values(), *CATEGORIES.values(), *SPECTRA.values()])
def test_a_layer_without_a_torch_module_returns_the_same(one: Case) -> None:
    assert converted(one).differences() == []


def public_names() -> Iterator[str]:
    for prefix, home in (("", ops), ("image.", ops.image), ("nn.", ops.nn), ("linalg.", ops.linalg)):
        for name in dir(home):
            if not name.startswith("_") and callable(getattr(home, name)):
                yield name if hasattr(ops, name) else f"{prefix}{name}"


def unexplained(names: set[str]) -> set[str]:
    """Return the functions that have neither a handler nor a reason."""
    return {name for name in names if f"{PREFIX}{name}" not in HANDLERS and name not in NO_CALLS}


def test_every_function_of_keras_ops_has_a_handler_or_a_reason() -> None:
    assert unexplained({*public_names()}) == set()


def test_a_new_function_without_a_handler_is_found() -> None:
    assert unexplained({"add", "add_in_a_new_way"}) == {"add_in_a_new_way"}


def test_every_reason_is_about_an_existing_function() -> None:
    reasons = {*NO_CALLS, *(name.removeprefix(PREFIX) for name in REFUSED)}
    assert reasons - {*public_names()} == set()


def test_every_operation_with_a_handler_has_test_cases() -> None:
    written = {kind.removeprefix(PREFIX) for kind in HANDLERS if kind.startswith(PREFIX) and kind not in REFUSED}
    assert written - {*CASES} - {*_WITHOUT_CASES} == set()
    assert {*CASES} - written == set()


_WITHOUT_CASES: dict[str, str] = {}
"""Operations with a handler but without a test case, each with the reason."""


WHOLE = Given(IMAGE, "int32")

REFUSALS: dict[str, tuple[Case, str]] = {
    "complex": (case(lambda x: ops.real(ops.view_as_complex(ops.stack([x, x], -1))), VECTOR), "complex numbers"),
    "window of an odd length": (case(lambda x: ops.stft(x, 7, 3, 16)[0], (40,)), "differs between Keras' backends"),
    "no window in longer frames": (case(lambda x: ops.stft(x, 6, 3, 8, window=None)[0], (40,)), "backends differ"),
    "istft without center": (
        case(lambda x: ops.istft(ops.stft(x, 8, 4, 8, center=False), 8, 4, 8, center=False), (40,)),
        "only with center=True",
    ),
    "argpartition": (case(lambda x: ops.argpartition(x, 1), VECTOR), "is not unique"),
    "nanmax": (case(named("nanmax", axis=1), IMAGE), "missing values"),
    "zoom": (
        case(lambda x: ops.image.scale_and_translate(x, (4, 3, 2, 4), "linear", [1.0, 1.0], [0.0, 0.0], (1, 2)), IMAGE),
        "belongs to the data",
    ),
    "loss": (case(named("psnr", max_val=1.0), IMAGE, IMAGE), "not a part of the deployed model"),
    "wide symmetric": (
        case(named("pad", pad_width=((0, 0), (2, 0), (0, 0), (0, 0)), mode="symmetric"), IMAGE),
        "repeats the edge",
    ),
    "smaller bicubic": (case(named("image.resize", size=(3, 2), interpolation="bicubic"), IMAGE), "backends differ"),
    "bicubic of three": (case(named("image.resize", size=(18, 15), interpolation="bicubic"), IMAGE), "backends differ"),
    "lanczos": (
        case(keras.layers.Resizing(3, 2, interpolation="lanczos3"), IMAGE),
        "torch has no counterpart",
    ),
    "resize integers": (case(named("image.resize", size=(3, 2)), WHOLE), "floating-point dtype"),
    "uneven average": (
        case(named("average_pool", pool_size=2, padding="same"), (5, 5, 4)),
        "asymmetric is not supported",
    ),
    "count": (case(named("count_nonzero", axis=1), IMAGE), "in reverse order"),
    "weights": (
        case(lambda x, y: ops.average(x, axis=1, weights=y), IMAGE, IMAGE),
        "supported only for axis=-1",
    ),
    "free same": (
        case(lambda x, k: ops.conv(x, k[0], strides=2, padding="same"), SEQUENCE, (3, 4, 6)),
        "depends on the inputs",
    ),
    "loop over the batch": (
        case(lambda x: ops.map(lambda row: 2.0 * row, x), VECTOR, inside=True),
        "keras.ops.map calls a function for each of a dynamic number of parts",
    ),
    "dot": (case(ops.dot, (3, 4), (4, 2)), "if x2 has more than two axes"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_an_unsupported_call_is_refused_with_its_reason(name: str) -> None:
    one, reason = REFUSALS[name]
    with pytest.raises(UnsupportedLayerError, match="cannot be converted to torch") as caught:
        converted(one)
    assert reason in str(caught.value)


def test_all_refused_calls_are_in_one_message() -> None:
    one = case(lambda x: ops.nanmax(ops.argpartition(x, 1), axis=1), VECTOR)
    with pytest.raises(UnsupportedLayerError) as caught:
        converted(one)
    assert all(name in str(caught.value) for name in ("nanmax", "argpartition"))


Chain = Callable[[Any], Any]


def _squeeze_and_excite(x: Any) -> Any:
    weights = ops.mean(x, axis=(1, 2), keepdims=True)
    return x * ops.sigmoid(ops.max(weights) - weights)


def _tokens(x: Any) -> Any:
    return ops.sum(ops.reshape(x, (-1, 30, 4)), axis=1)


NOTHING_MOVES: dict[str, Chain] = {
    "squeeze and excite": _squeeze_and_excite,
    "gram": lambda x: ops.einsum("bhwc,bhwd->bcd", x, x),
    "normalised": lambda x: (x - ops.mean(x, axis=-1, keepdims=True)) / ops.std(x, axis=-1, keepdims=True),
    "joined": lambda x: ops.concatenate([x[:, ::2], x[:, 1::2]], axis=-1)[..., 1:],
    "resized": lambda x: ops.image.resize(ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0))), (3, 2)),
    "tokens": _tokens,
    "there and back": lambda x: ops.transpose(ops.exp(ops.transpose(x, (0, 3, 1, 2))), (0, 2, 3, 1)),
    "new axes": lambda x: ops.squeeze(ops.expand_dims(x, 1) * 2.0, 1),
    "picked": lambda x: ops.take(ops.flip(x, axis=1), [2, 0], axis=-1),
}


@pytest.mark.parametrize("name", NOTHING_MOVES)
def test_operations_that_work_in_any_axis_order_need_no_permutation(name: str) -> None:
    one = converted(case(NOTHING_MOVES[name], IMAGE))
    assert one.differences() == []
    assert "permute" not in one.conversion.source


@pytest.mark.parametrize("name", ["squeeze and excite", "normalised", "there and back", "new axes"])
def test_there_is_no_permutation_between_operations_and_a_convolution(name: str) -> None:
    one = converted(case(lambda x: keras.layers.Conv2D(4, 3)(NOTHING_MOVES[name](x)), IMAGE))
    assert one.differences() == []
    assert "permute" not in one.conversion.source


def test_a_necessary_permutation_is_written_once() -> None:
    one = converted(case(lambda x: ops.matmul(x, ops.reshape(x, (-1, 6, 4, 5))), IMAGE))
    assert one.differences() == []
    assert one.conversion.source.count("permute") == 1


MISTAKES: dict[str, tuple[Case, str, str]] = {
    "another axis": (CASES["softmax"][0], "dim=1", "dim=2"),
    "the axis of Keras": (CASES["softmax"][1], "dim=2", "dim=1"),
    "an exact gelu": (CASES["gelu"][0], ', approximate="tanh"', ""),
    "a tanh gelu": (CASES["gelu"][1], "F.gelu(x)", 'F.gelu(x, approximate="tanh")'),
    "lost axes": (CASES["mean"][4], "dim=(1, 2)", "dim=(1, 3)"),
    "the unbiased variance": (CASES["var"][1], "correction=0", "correction=1"),
    "the lower median": (CASES["median"][1], "quantile(0.5, dim=-1)", "median(-1).values"),
    "another slope": (CASES["leaky_relu"][0], "0.2", "0.01"),
    "a limit of softplus": (CASES["softplus"][1], ", threshold=40", ", threshold=5"),
    "corners aligned": (CASES["image.resize"][0], "align_corners=False", "align_corners=True"),
    "the old nearest": (CASES["image.resize"][1], "nearest-exact", "nearest"),
    "mirrored otherwise": (CASES["pad"][2], "reflect", "replicate"),
    "padding on the other side": (CASES["pad"][0], "(0, 3, 1, 2)", "(3, 0, 1, 2)"),
    "letters in another order": (CASES["einsum"][0], "->bcd", "->bdc"),
    "a product": (CASES["mod"][0], " % ", " * "),
    "the other triangle": (CASES["tril"][0], "tril", "triu"),
    "another offset": (CASES["diagonal"][1], "diagonal(1", "diagonal(-1"),
    "sorted downwards": (CASES["sort"][0], "sort(dim=1)", "sort(dim=1, descending=True)"),
    "indices of int64": (CASES["argmax"][1], ".to(torch.int32)", ""),
    "negative indices from the front": (CASES["take_along_axis"][0], "long() % ", "long().abs() % "),
    "the channels of a patch in front": (
        CASES["image.extract_patches"][0],
        ".unflatten(1, (4, 4)).transpose(1, 2)",
        "",
    ),
    "the channels of a block in front": (CASES["depth_to_space"][0], ".transpose(1, 2)", ""),
    "another epsilon": (CASES["layer_normalization"][0], "eps=1e-07", "eps=1e-05"),
    "no scale": (CASES["dot_product_attention"][1], ", scale=0.3", ""),
    "looking ahead": (CASES["dot_product_attention"][2], ", is_causal=True", ""),
    "an empty row that is nothing": (
        CASES["dot_product_attention"][4],
        ".min / 2",
        ".min * 2",
    ),
    "a norm of rows": (CASES["norm"][11], "1, dim=", 'float("inf"), dim='),
    "a division by nothing": (CASES["divide_no_nan"][0], "== 0, 0,", "== 0, 1,"),
    "counted from one": (CASES["one_hot"][0], "== torch.arange(5", "== 1 + torch.arange(5"),
    "columns before rows": (CASES["reshape"][0], "reshape(", "transpose(2, 3).reshape("),
    "an open end": (CASES["clip"][0], "clamp(-0.5, 0.7)", "clamp(min=(-0.5))"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_in_an_operation_changes_the_result(name: str) -> None:
    one, right, wrong = MISTAKES[name]
    pair = converted(one)
    source = pair.conversion.source
    assert right in source, source
    assert pair.differences(instance_of(source.replace(right, wrong))) != []


def example(name: str) -> str:
    """Return the source code for the first test case of an operation."""
    source = converted(CASES[name][0]).conversion.source
    body = source.rpartition(" -> ")[2].partition("\n")[2].splitlines()[:-1]
    return "; ".join(line.strip() for line in body).replace("( ", "(").replace("|", "\\|")


def table() -> str:
    """Return the table of operations as Markdown."""
    rows = ["| operation | in torch |", "| --- | --- |"]
    names = sorted({*public_names()})
    for name in names:
        reason = REFUSED.get(f"{PREFIX}{name}")
        said = f"refused: {reason}" if reason else NO_CALLS.get(name, "")
        rows.append(f"| `{name}` | {said or f'`{example(name)}`' if name not in _WITHOUT_CASES else ''} |")
    return "\n".join([_HEAD, *rows, ""])


_HEAD = """# The operations of `keras.ops` in a converted model

Written by `python tests/torch_backend/builder/test_operations.py`. The second column has the code for the first test
case of the operation, mostly with an image, which is channels-last in Keras and channels-first in torch. Results with
three axes are returned in the order of Keras.
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:NotImplemented should not be used:DeprecationWarning")  # Keras' own tensordot
def test_the_table_of_operations_is_up_to_date() -> None:
    assert TABLE.read_text() == table(), f"run: python {Path(__file__).relative_to(TABLE.parents[1])}"


if __name__ == "__main__":
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table())
