"""Create the pair of two layers by the rule for their classes, or the pair of tensors by a transform."""

import re
from collections.abc import Iterable, Iterator, Sequence

from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.alignment.shapes import reshaping
from keras3conv.errors import TransformError
from keras3conv.messages import count
from keras3conv.model.paths import join_layers
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.rules.applying import full_paths, torch_config
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.transforms import Axes, Shape, Transform

RULE = "torch.nn.Parameter <-> keras.Variable"
"""The name that replaces the name of a rule in pairs of single tensors, which are made without a rule."""


def make_pair(
    rule: Rule, torch: LayerView, keras: LayerView, evidence: Iterable[Evidence], candidates: Iterable[str] = ()
) -> Pair:
    """Return the pair of two layers by a rule that fits them.

    Args:
        rule: The rule.
        torch: The torch layer.
        keras: The Keras layer.
        evidence: The reasons for the pair, to record in it.
        candidates: The paths of other layers that fit as well, to record in the pair.
    """
    return Pair(
        torch=torch.path,
        keras=keras.path,
        rule=rule.name,
        weights=tuple(full_paths(rule, torch, keras)),
        evidence=(*evidence, *_unseen_flatten(rule, torch, keras), *_numbered_alike(keras)),
        candidates=tuple(candidates),
    )


def _numbered_alike(keras: LayerView) -> Iterator[Evidence]:
    """Yield the `Evidence` that two variables of equal shapes may be swapped, because a file only numbers them.

    Only their order distinguishes them, and the rule may list them in another order than the file.
    """
    shapes = [
        one.shape for one in keras.tensors if one.path.rpartition("/")[2].isdecimal() and not one.role.isdecimal()
    ]
    if len(set(shapes)) < len(shapes):
        detail = "two variables of one shape, which the file numbers: the rule names them by their order"
        yield Evidence(kind="interchangeable", detail=detail)


def _unseen_flatten(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[Evidence]:
    """Yield the `Evidence` that the order of the kernel's inputs is uncertain, for a pair of Linear and Dense.

    Torch and Keras flatten an image in different axis orders. So the inputs of the next kernel are permuted, by the
    shape before the flatten. This is uncertain if only one of the models was run, so that the flatten of the other is
    unknown. It is also uncertain if all sizes of that shape are equal, so that they do not show the axis order.
    """
    flattened = torch.run.flattened
    if flattened and keras.run.flattened == flattened and len(set(flattened)) == 1 and flattened[0] > 1:
        detail = f"both sides flatten {flattened} before this layer: the sizes do not determine the order of its rows"
        yield Evidence(kind="unseen flatten", detail=detail)
    torch_unseen = torch.run.calls is None and keras.run.flattened is not None
    keras_unseen = keras.run.calls is None and torch.run.flattened is not None
    if not (torch_unseen or keras_unseen):
        return
    config = torch_config(rule, torch, keras) or {}
    permuted = rule.weights(config) != rule.weights({**config, "flattened": None})
    order = "the rows of its kernel are permuted" if permuted else "the rows of its kernel keep their order"
    if torch_unseen:
        yield Evidence(
            kind="unseen flatten", detail=f"Keras flattens before this layer, but torch was not run: {order}"
        )
    elif permuted:
        detail = f"torch flattens {torch.run.flattened} before this layer, but Keras was not run: {order}"
        yield Evidence(kind="unseen flatten", detail=detail)


def pair_of_tensors(
    mappings: Iterable[WeightMapping], evidence: Iterable[Evidence], candidates: Iterable[str] = ()
) -> Pair:
    """Return the pair of the tensors of one or more mappings, which no rule made.

    Args:
        mappings: The mappings between torch tensors and Keras tensors.
        evidence: The reasons for the pair, to record in it.
        candidates: The paths of other tensors that fit as well, to record in the pair.
    """
    weights = tuple(mappings)
    return Pair(
        torch=join_layers(path for mapping in weights for path in mapping.torch),
        keras=join_layers(path for mapping in weights for path in mapping.keras),
        rule=RULE,
        weights=weights,
        evidence=tuple(evidence),
        candidates=tuple(candidates),
    )


def transform_between(
    torch: Sequence[TensorRef], keras: Sequence[TensorRef], transform: str | Transform | None
) -> Transform:
    """Return the transform from torch tensors to Keras tensors, which is given or determined by the shapes.

    Args:
        torch: The torch tensors.
        keras: The Keras tensors.
        transform: A transform, which is returned; a pattern such as "1 n d -> n d" for one tensor on each side; or
            None, for one tensor on each side whose shapes differ only in axes of size 1.

    Raises:
        TransformError: No such transform exists, or several tensors are given without a transform.
    """
    if isinstance(transform, Transform):
        return transform
    if len(torch) != 1 or len(keras) != 1:
        counts = f"{len(torch)} torch and {count(len(keras), 'Keras tensor')}"
        raise TransformError(
            f"{counts} can only be paired with a transform: give the argument, such as transform=Concat(0, (8, 8, 8))"
        )
    if transform is None:
        return reshaping(torch[0].shape, keras[0].shape)
    return _axes_between(transform, torch[0].shape, keras[0].shape)


def _axes_between(pattern: str, torch: Shape, keras: Shape) -> Axes:
    """Return the `Axes` transform of a pattern ("1 n d -> n d") from a torch shape to a Keras shape.

    The sizes of axes that the pattern merges on one side are taken from the shape on the other side.

    Raises:
        TransformError: The pattern cannot be reversed, or the shapes do not determine a size.
    """
    sizes: dict[str, int] = {}
    merged: set[str] = set()
    for side, shape in zip(pattern.split("->"), (torch, keras), strict=False):
        tokens = re.findall(r"\([^)]*\)|\S+", side)
        merged |= {name for token in tokens if token.startswith("(") for name in token.strip("()").split()}
        if len(tokens) == len(shape):
            sizes |= {token: size for token, size in zip(tokens, shape, strict=True) if token.isidentifier()}
    return Axes(pattern, **{name: size for name, size in sizes.items() if name in merged})
