"""Pair the parameters outside of any layer that a rule knows: a class token, a position table, a layer scale.

They are paired tensor by tensor: by shape, ignoring axes of size one, and by name where several have one shape.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from keras3conv.alignment import Evidence, EvidenceKind, Pair, misfit, tensors_by_path
from keras3conv.errors import AlignmentError, Problem, TransformError, lay_out
from keras3conv.model import ModelView, TensorRef
from keras3conv.planner import names
from keras3conv.rule import WeightMapping, known_classes
from keras3conv.rules.parameter import TIMM_LAYER_SCALE
from keras3conv.transforms import Axes, Same, Shape, Transform

RULE = "torch.nn.Parameter <-> keras.Variable"
"""The name in the place of a rule, for pairs of single tensors."""

_LETTERS = "abcdefghijklmnop"


def bare_pairs(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Yield the pairs of single tensors that are in no pair yet.

    Args:
        torch: The torch side, of which only the parameters of layers that no rule knows count.
        keras: The Keras side, of which any variable counts: a position table may be an Embedding.
        pairs: The pairs that were found before.
    """
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    known = known_classes()[0] - {TIMM_LAYER_SCALE}
    torch_tensors = [
        tensor
        for layer in torch.layers
        if layer.kinds and not known.intersection(layer.kinds)
        for tensor in layer.tensors
        if tensor.path not in placed and tensor.trainable
    ]
    keras_tensors = [tensor for tensor in keras.tensors() if tensor.path not in placed and not tensor.is_seed]
    calls = _first_calls(torch), _first_calls(keras)
    keras_groups = _by_shape(keras_tensors)
    for shape, group in _by_shape(torch_tensors).items():
        yield from _matched(group, keras_groups.get(shape, []), *calls)


def are_tensors(torch: ModelView, keras: ModelView, torch_path: str, keras_path: str) -> bool:
    """Return whether both paths name tensors and not layers."""
    views = (torch, torch_path), (keras, keras_path)
    return all(
        path in tensors_by_path(view) and all(layer.path != path for layer in view.layers) for view, path in views
    )


def pair_of_tensors(
    torch: ModelView, keras: ModelView, torch_path: str, keras_path: str, transform: str | Transform | None
) -> Pair:
    """Return the pair of two tensors that the user named; the path of a layer with one tensor names that tensor.

    Args:
        torch: The torch side.
        keras: The Keras side.
        torch_path: The path of the torch tensor, or of its layer.
        keras_path: The path of the Keras tensor, or of its layer.
        transform: The transform, or its pattern without the sizes that the two shapes tell. None if the shapes differ
            in axes of size one at most.

    Raises:
        AlignmentError: A path is unknown, or the transform does not fit the shapes.
    """
    first, second = _tensor(torch, torch_path), _tensor(keras, keras_path)
    try:
        if transform is None:
            transform = reshaping(first.shape, second.shape)
        elif isinstance(transform, str):
            transform = axes_between(transform, first.shape, second.shape)
        mapping = WeightMapping(torch=(first.path,), keras=(second.path,), transform=transform)
        fact = misfit(mapping, {first.path: first}, {second.path: second})
    except TransformError as error:
        fact = str(error)
        mapping = None
    if mapping is None or fact:
        fixes = (f'plan.pair("{first.path}", "{second.path}", transform="...")',)
        problem = Problem(torch=first.path, keras=second.path, fact=fact, fixes=fixes)
        raise AlignmentError(lay_out(f"cannot pair a tensor of {torch.title} with one of {keras.title}", [problem]))
    return Pair(
        torch=first.path, keras=second.path, rule=RULE, weights=(mapping,), evidence=(Evidence(kind="by hand"),)
    )


def axes_between(pattern: str, torch: Shape, keras: Shape) -> Axes:
    """Return the transform of a pattern between two shapes; the sizes of merged axes are read from the other shape.

    Raises:
        TransformError: The pattern cannot be reversed, or a size is unknown.
    """
    sizes: dict[str, int] = {}
    merged: set[str] = set()
    for side, shape in zip(pattern.split("->"), (torch, keras), strict=False):
        tokens = re.findall(r"\([^)]*\)|\S+", side)
        merged |= {name for token in tokens if token.startswith("(") for name in token.strip("()").split()}
        if len(tokens) == len(shape):
            pairs = zip(tokens, shape, strict=True)
            sizes |= {token: size for token, size in pairs if token.isidentifier()}
    return Axes(pattern, **{name: size for name, size in sizes.items() if name in merged})


def _tensor(view: ModelView, path: str) -> TensorRef:
    """Return the tensor with this path, or the only tensor of the layer; raise `AlignmentError` where there is none."""
    tensors = tensors_by_path(view)
    own = [tensor for layer in view.layers if layer.path == path for tensor in layer.tensors]
    if path in tensors or len(own) == 1:
        return tensors.get(path) or own[0]
    what = f"has {len(own)} tensors: {', '.join(tensor.path for tensor in own)}" if own else "is no tensor and no layer"
    raise AlignmentError(lay_out(f"there is no such tensor in {view.title}", [Problem.on(view.side, path, what)]))


def reshaping(torch: Shape, keras: Shape) -> Transform:
    """Return the transform between two shapes that differ in axes of size one; raise `TransformError` for others."""
    if torch == keras:
        return Same()
    if [size for size in torch if size != 1] != [size for size in keras if size != 1]:
        raise TransformError(f"{torch} and {keras} differ in more than axes of size one")
    left, right = iter(_LETTERS), iter(_LETTERS)
    before = " ".join("1" if size == 1 else next(left) for size in torch)
    after = " ".join("1" if size == 1 else next(right) for size in keras)
    return Axes(f"{before} -> {after}")


def _by_shape(tensors: Iterable[TensorRef]) -> dict[Shape, list[TensorRef]]:
    """Return the tensors by their shape without axes of size one."""
    groups: dict[Shape, list[TensorRef]] = {}
    for tensor in tensors:
        groups.setdefault(tuple(size for size in tensor.shape if size != 1), []).append(tensor)
    return groups


def _first_calls(view: ModelView) -> dict[str, int]:
    """Return the position of the first call of each tensor's layer, where it is known."""
    return {tensor.path: layer.calls[0] for layer in view.layers if layer.calls for tensor in layer.tensors}


def _matched(
    torch: Sequence[TensorRef],
    keras: Sequence[TensorRef],
    torch_calls: Mapping[str, int],
    keras_calls: Mapping[str, int],
) -> Iterator[Pair]:
    """Yield the pairs among tensors of one shape: the only one, then equal names, then call or definition order."""
    if len(torch) == len(keras) == 1:
        yield _pair(torch[0], keras[0], Evidence(kind="shape", detail="no other tensor that is left has this shape"))
        return
    named: dict[tuple[str, ...], list[TensorRef]] = {}
    for tensor in keras:
        named.setdefault(names.words(tensor.path), []).append(tensor)
    left = list(torch)
    for tensor in torch:
        found = named.get(names.words(tensor.path), [])
        if len(found) == 1:
            left.remove(tensor)
            yield _pair(tensor, found[0], Evidence(kind="name", detail=" ".join(names.words(tensor.path))))
            named[names.words(tensor.path)] = []
    rest = [tensor for tensors in named.values() for tensor in tensors]
    if len(rest) == len(left):
        kind: EvidenceKind = "definition order"
        if _has_order(left, torch_calls) and _has_order(rest, keras_calls):
            kind = "call order"
            left.sort(key=lambda tensor: torch_calls[tensor.path])
            rest.sort(key=lambda tensor: keras_calls[tensor.path])
        for position, (first, second) in enumerate(zip(left, rest, strict=True), 1):
            others = tuple(other.path for other in rest if other is not second)[:5]
            detail = f"{position} of {len(left)} with this shape"
            yield _pair(first, second, Evidence(kind=kind, detail=detail), others)


def _has_order(tensors: Iterable[TensorRef], calls: Mapping[str, int]) -> bool:
    """Return whether the first call of every tensor's layer is known, and no two are the same."""
    first_calls = [calls.get(tensor.path) for tensor in tensors]
    return None not in first_calls and len(set(first_calls)) == len(first_calls)


def _pair(torch: TensorRef, keras: TensorRef, evidence: Evidence, candidates: tuple[str, ...] = ()) -> Pair:
    mapping = WeightMapping(torch=(torch.path,), keras=(keras.path,), transform=reshaping(torch.shape, keras.shape))
    return Pair(
        torch=torch.path, keras=keras.path, rule=RULE, weights=(mapping,), evidence=(evidence,), candidates=candidates
    )
