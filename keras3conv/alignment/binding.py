"""Bind two layers or two tensors into a pair: by a rule, by hand, or as bare tensors."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

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
"""The name in the place of a rule, for pairs of single tensors."""

_LETTERS = "abcdefghijklmnop"


def unseen_flatten(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[Evidence]:
    """Yield the doubt about a flatten on one side if the other side did not run: the rows may be permuted."""
    torch_unseen = torch.calls is None and keras.flattened is not None
    keras_unseen = keras.calls is None and torch.flattened is not None
    if not (torch_unseen or keras_unseen):
        return
    config = torch_config(rule, torch, keras) or {}
    permuted = rule.weights(config) != rule.weights({**config, "flattened": None})
    order = "its rows are permuted" if permuted else "its rows keep their order"
    if torch_unseen:
        yield Evidence(kind="unseen flatten", detail=f"Keras flattens before it, torch was not run: {order}")
    elif permuted:
        detail = f"torch flattens {torch.flattened} before it, Keras was not run: {order}"
        yield Evidence(kind="unseen flatten", detail=detail)


def make_pair(
    rule: Rule, torch: LayerView, keras: LayerView, evidence: Iterable[Evidence], candidates: Iterable[str] = ()
) -> Pair:
    """Return the pair of two layers by a rule that fits them."""
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
    """Return the pair of two layers that the user named; several layers of one side are joined by " + ".

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
    """Return the layer with this path; several combined into one with numbered roles."""
    found = [_layer(view, path) for path in paths]
    return found[0] if len(found) == 1 else numbered(found, view.side)


def _layer(view: ModelView, path: str) -> LayerView:
    layers = {layer.path: layer for layer in units(view)}
    if path in layers:
        return layers[path]
    close = get_close_matches(path, layers, n=3, cutoff=0.0)
    problem = Problem(fact=f"{path!r} is not a layer with tensors; similar: {', '.join(close)}")
    raise AlignmentError(lay_out(f"there is no such layer in {view.title}", [problem]))


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
