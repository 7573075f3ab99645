"""Bind two layers or two tensors into a pair: by a rule, by hand, or as bare tensors."""

import re
from collections.abc import Iterable, Iterator

from keras3conv.alignment.pair import Evidence, EvidenceKind, Pair, misfit, tensors_by_path
from keras3conv.errors import AlignmentError, Problem, TransformError
from keras3conv.messages import lay_out
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.rules.applying import full_paths, may_apply, torch_config
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.rules.units import numbered, units
from keras3conv.transforms import Axes, Same, Shape, Transform

RULE = "torch.nn.Parameter <-> keras.Variable"
"""The name that stands in a plan where other pairs have the name of their rule."""


_LETTERS = "abcdefghijklmnop"


def unseen_flatten(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[Evidence]:
    """A doubt: one side flattens before this layer, and nobody saw what the other does; the rows may be permuted."""
    torch_unseen = torch.calls is None and keras.flattened is not None
    keras_unseen = keras.calls is None and torch.flattened is not None
    if not (torch_unseen or keras_unseen):
        return
    config = torch_config(rule, torch, keras) or {}
    permuted = rule.weights(config) != rule.weights({**config, "flattened": None})
    order = "its rows are permuted" if permuted else "its rows are taken as they are"
    if torch_unseen:
        yield Evidence(kind="unseen flatten", detail=f"Keras flattens before it, torch was not run: {order}")
    elif permuted:
        detail = f"torch flattens {torch.flattened} before it, Keras could not be looked at: {order}"
        yield Evidence(kind="unseen flatten", detail=detail)


def make_pair(
    rule: Rule, torch: LayerView, keras: LayerView, evidence: Iterable[Evidence], candidates: Iterable[str] = ()
) -> Pair:
    """The pair of two layers, by a rule that fits them, with the mappings' full tensor paths."""
    weights = tuple(full_paths(rule, torch, keras))
    return Pair(
        torch=torch.path,
        keras=keras.path,
        rule=rule.name,
        weights=weights,
        evidence=(*evidence, *unseen_flatten(rule, torch, keras)),
        candidates=tuple(candidates),
    )


def pair_by_hand(
    torch: ModelView, keras: ModelView, torch_path: str, keras_path: str, kind: EvidenceKind = "by hand"
) -> Pair:
    """The pair of two layers that somebody named; several of one side are joined by " + ".

    Raises:
        AlignmentError: A name is unknown, no rule knows the classes, or the shapes do not fit.
    """
    names = torch_path.split(" + "), keras_path.split(" + ")
    counts = len(names[0]), len(names[1])
    first, second = _named(torch, names[0]), _named(keras, names[1])
    known = tensors_by_path(torch), tensors_by_path(keras)
    facts = []
    for rule in lookup(first.kinds, second.kinds, counts):
        if not may_apply(rule, first):
            continue
        pair = make_pair(rule, first, second, [Evidence(kind=kind)])
        misfits = [fact for mapping in pair.weights if (fact := misfit(mapping, *known))]
        if not misfits and pair.weights:
            return pair
        facts += misfits
    if not facts:
        facts = [f"no rule pairs {first.kind or 'an unknown class'} with {second.kind or 'an unknown class'}"]
    problems = [Problem(torch=torch_path, keras=keras_path, fact=fact) for fact in dict.fromkeys(facts)]
    raise AlignmentError(lay_out(f"cannot pair a layer of {torch.title} with one of {keras.title}", problems))


def _named(view: ModelView, paths: list[str]) -> LayerView:
    """The layer with this path; several as one with numbered roles."""
    found = [_layer(view, path) for path in paths]
    return found[0] if len(found) == 1 else numbered(found, view.side)


def _layer(view: ModelView, path: str) -> LayerView:
    layers = {layer.path: layer for layer in units(view)}
    if path in layers:
        return layers[path]
    from rapidfuzz import process

    close = [name for name, _, _ in process.extract(path, list(layers), limit=3)]
    problem = Problem(fact=f"{path!r} is not a layer with tensors; similar: {', '.join(close)}")
    raise AlignmentError(lay_out(f"there is no such layer in {view.title}", [problem]))


def are_tensors(torch: ModelView, keras: ModelView, torch_path: str, keras_path: str) -> bool:
    """Whether both paths are those of tensors, and not of layers."""
    views = (torch, torch_path), (keras, keras_path)
    return all(
        path in tensors_by_path(view) and all(layer.path != path for layer in view.layers) for view, path in views
    )


def pair_of_tensors(
    torch: ModelView, keras: ModelView, torch_path: str, keras_path: str, transform: str | Transform | None
) -> Pair:
    """The pair of two tensors that somebody named; a layer with one tensor stands for it.

    Args:
        torch: The torch side.
        keras: The Keras side.
        torch_path: The path of the torch tensor, or of its layer.
        keras_path: The path of the Keras tensor, or of its layer.
        transform: What becomes of the tensor. In a pattern, sizes that the two shapes tell are left out. None where
            the two differ in axes of size one at most.

    Raises:
        AlignmentError: A name is unknown, or the transform does not fit the shapes.
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
    """The transform of a pattern between two shapes; the sizes of merged names are read off the other shape.

    Raises:
        TransformError: It cannot be reversed, or a size cannot be told.
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
    """The tensor with this path, or that of the layer with this path; raises `AlignmentError` where there is none."""
    tensors = tensors_by_path(view)
    own = [tensor for layer in view.layers if layer.path == path for tensor in layer.tensors]
    if path in tensors or len(own) == 1:
        return tensors.get(path) or own[0]
    what = f"has {len(own)} tensors: {', '.join(tensor.path for tensor in own)}" if own else "is no tensor and no layer"
    raise AlignmentError(lay_out(f"there is no such tensor in {view.title}", [Problem.on(view.side, path, what)]))


def reshaping(torch: Shape, keras: Shape) -> Transform:
    """The transform between two shapes that differ in axes of size one only; raises `TransformError` for others."""
    if torch == keras:
        return Same()
    if [size for size in torch if size != 1] != [size for size in keras if size != 1]:
        raise TransformError(f"{torch} and {keras} differ in more than axes of size one")
    left, right = iter(_LETTERS), iter(_LETTERS)
    before = " ".join("1" if size == 1 else next(left) for size in torch)
    after = " ".join("1" if size == 1 else next(right) for size in keras)
    return Axes(f"{before} -> {after}")
