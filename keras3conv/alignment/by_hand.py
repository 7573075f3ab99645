"""Pair the layers or the tensors that the user names, and suggest a call if they do not fit."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from keras3conv.alignment.binding import make_pair, pair_of_tensors, transform_between
from keras3conv.alignment.packed import packed_mappings
from keras3conv.alignment.pair import Evidence, EvidenceKind, Pair, misfit, tensors_by_path
from keras3conv.alignment.proposals import call_that_fits
from keras3conv.alignment.renamed import renamed_mappings
from keras3conv.errors import AlignmentError, Problem, TransformError, message_of
from keras3conv.messages import count, lay_out
from keras3conv.model.paths import join_layers, separator, split_layers
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.rules.applying import may_apply
from keras3conv.rules.library import known_classes, lookup
from keras3conv.rules.misnamed import misnamed
from keras3conv.rules.rule import WeightMapping
from keras3conv.rules.units import numbered, units
from keras3conv.transforms import Transform

REGISTER = "k3c.register(RULE)  # your rule for these layers"
"""The line to paste where only a rule of the user says how the tensors of two layers correspond."""

Names = str | Sequence[str]
"""One path, a list of paths, or several paths in one string, joined by " + "."""

_SHOWN_NAMES = 3

_ROWS_DO_NOT_FIT = "the rows of these layers do not fit"


def paths_of(names: Names) -> tuple[str, ...]:
    """Return paths as a tuple: from one path, from a list of paths, or from paths joined by " + "."""
    return split_layers(names) if isinstance(names, str) else tuple(names)


def pair_by_hand(
    torch: ModelView,
    keras: ModelView,
    torch_names: Names,
    keras_names: Names,
    *,
    transform: str | Transform | None = None,
    heads: int = 1,
    kind: EvidenceKind = "by hand",
) -> Pair:
    """Return the pair of layers, or of tensors, that the user names.

    Layers are paired by the rule for their classes. If a transform is given, or a name is the path of a tensor, tensors
    are paired instead; the path of a layer with a single tensor then means that tensor.

    Args:
        torch: The view of the torch model.
        keras: The view of the Keras model.
        torch_names: The path of a torch layer or tensor, or several.
        keras_names: The path of a Keras layer or tensor, or several.
        transform: The transform from the torch tensors to the Keras tensors, or its pattern, without the sizes that
            follow from the shapes. None for layers, and for tensors that differ only in axes of size 1.
        heads: The number of heads if packed rows go head by head (query, key, value of each); 1 if part by part.
        kind: The kind of evidence to record in the pair.

    Raises:
        AlignmentError: A name is unknown, no rule pairs the classes, or the shapes do not fit.
    """
    torch_paths, keras_paths = paths_of(torch_names), paths_of(keras_names)
    check_names(torch, keras, [(torch_paths, keras_paths)])
    torch_layers, keras_layers = _layers_by_path(torch), _layers_by_path(keras)
    are_layers = torch_layers.keys() >= set(torch_paths) and keras_layers.keys() >= set(keras_paths)
    evidence = Evidence(kind=kind)
    if transform is not None or not are_layers:
        return _pair_named_tensors(torch, keras, torch_paths, keras_paths, transform, evidence)
    named = [torch_layers[path] for path in torch_paths], [keras_layers[path] for path in keras_paths]
    torch_layer, keras_layer = _as_one_layer(named[0], torch), _as_one_layer(named[1], keras)
    counts = len(torch_paths), len(keras_paths)
    tensors = tensors_by_path(torch), tensors_by_path(keras)
    facts: list[str] = []
    fixes: tuple[str, ...] = ()
    for rule in lookup(torch_layer.kinds, keras_layer.kinds, counts) if heads == 1 else ():
        if not may_apply(rule, torch_layer):
            continue
        pair = make_pair(rule, torch_layer, keras_layer, [evidence])
        misfits = [fact for mapping in pair.weights if (fact := misfit(mapping, *tensors))]
        if pair.weights and not misfits:
            return pair
        facts += misfits
    if mappings := packed_mappings(*named, heads) or _renamed(torch_layer, keras_layer, counts, heads):
        return pair_of_tensors(mappings, [evidence])
    if not facts:
        facts = [_no_rule(torch_layer, keras_layer, counts) if heads == 1 else f"{_ROWS_DO_NOT_FIT} {heads} heads"]
        if all(len(layer.tensors) == 1 for layer in (*named[0], *named[1])):
            fixes = call_that_fits(*map(_tensors_of, named))
        elif counts == (1, 1) and heads == 1 and _is_of_unknown_class(torch_layer, keras_layer):
            fixes = (REGISTER,)
    first, second = join_layers(torch_paths), join_layers(keras_paths)
    problems = [Problem(torch=first, keras=second, fact=fact, fixes=fixes) for fact in dict.fromkeys(facts)]
    raise AlignmentError(lay_out(f"cannot pair a layer of {torch.title} with one of {keras.title}", problems))


def needs_rule(torch: LayerView, keras: LayerView) -> bool:
    """Return whether only a rule of the user can pair two layers: of unknown classes, and of shapes that fit no rule.

    Args:
        torch: The torch layer.
        keras: The Keras layer.
    """
    if not _is_of_unknown_class(torch, keras):
        return False
    shapes = [{tensor.path: tensor for tensor in layer.tensors} for layer in (torch, keras)]
    for rule in lookup(torch.kinds, keras.kinds):
        weights = make_pair(rule, torch, keras, ()).weights if may_apply(rule, torch) else ()
        if weights and not any(misfit(mapping, *shapes) for mapping in weights):
            return False
    return not packed_mappings([torch], [keras], 1) and not _renamed(torch, keras, (1, 1), 1)


def _tensors_of(layers: Iterable[LayerView]) -> tuple[TensorRef, ...]:
    return tuple(tensor for layer in layers for tensor in layer.tensors)


def _is_of_unknown_class(torch: LayerView, keras: LayerView) -> bool:
    known = zip(known_classes(), (torch, keras), strict=True)
    return any(not classes.intersection(layer.kinds) for classes, layer in known)


def _renamed(torch: LayerView, keras: LayerView, counts: tuple[int, int], heads: int) -> tuple[WeightMapping, ...]:
    return tuple(renamed_mappings(torch, keras)) if counts == (1, 1) and heads == 1 else ()


def _no_rule(torch: LayerView, keras: LayerView, counts: tuple[int, int]) -> str:
    """Return the message for two layers, or groups of layers, whose classes no rule pairs.

    Args:
        torch: The torch layer, or the view that unites several.
        keras: The Keras layer, or the view that unites several.
        counts: The numbers of torch layers and of Keras layers.
    """
    first, second = (layer.kind or "an unknown class" for layer in (torch, keras))
    advice = _without_rule(torch, keras) if counts == (1, 1) else ""
    return f"no rule pairs {_several(counts[0], first)} with {_several(counts[1], second)}{advice}"


def _without_rule(torch: LayerView, keras: LayerView) -> str:
    """Return advice to end an error message: how to add a rule for a class, or why a user's rule does not apply.

    The text is empty for classes of torch and Keras.
    """
    for known, layer in zip(known_classes(), (torch, keras), strict=True):
        if layer.kind and not known.intersection(layer.kinds):
            return f"; k3c.register adds a rule for {layer.kind}; on the command line, --import FILE.py runs your code"
        if not layer.kind:
            return "; a rule that you register says how their tensors correspond, see the guide on custom layers"
    reason = misnamed("torch", torch) or misnamed("keras", keras)
    return f"; {reason}" if reason else ""


def _several(number: int, kind: str) -> str:
    return kind if number == 1 else f"{number} x {kind}"


def check_names(torch: ModelView, keras: ModelView, named: Iterable[tuple[Sequence[str], Sequence[str]]]) -> None:
    """Raise one `AlignmentError` that lists all names which the models lack, each with the most similar known names.

    Args:
        torch: The view of the torch model.
        keras: The view of the Keras model.
        named: For every pair, the paths on the torch side and the paths on the Keras side.
    """
    known = {view.side: (*_layers_by_path(view), *tensors_by_path(view)) for view in (torch, keras)}
    problems = []
    for torch_paths, keras_paths in named:
        for view, paths in ((torch, torch_paths), (keras, keras_paths)):
            if not paths:
                problems.append(Problem(fact=f"the call names no layer of {view.title}"))
            for path in dict.fromkeys(paths):
                if path not in known[view.side]:
                    problems.append(Problem.on(view.side, path, _unknown(view, path, known[view.side])))
                elif paths.count(path) > 1:
                    problems.append(Problem.on(view.side, path, "this layer occurs twice in one pair"))
    if problems:
        raise AlignmentError(lay_out(f"cannot pair layers of {torch.title} with layers of {keras.title}", problems))


def _unknown(view: ModelView, path: str, names: Sequence[str]) -> str:
    if any(layer.path == path for layer in view.layers):
        return "this layer has no tensors of its own, so it cannot be paired"
    nearest = get_close_matches(path, filter(None, names), n=2 * _SHOWN_NAMES, cutoff=0.0)
    # Leave out the tensors of a layer in the list: their names are similar too, but add no information.
    inside = tuple(f"{name}{separator(view.side)}" for name in nearest)
    distinct = [name for name in nearest if not name.startswith(inside)]
    return (
        "the model has neither a layer nor a tensor of this name; similar names are "
        f"{', '.join(distinct[:_SHOWN_NAMES])}"
    )


def _layers_by_path(view: ModelView) -> dict[str, LayerView]:
    """Return the layers of a model by path. The model itself, with the empty path, is included if it owns tensors."""
    return {layer.path: layer for layer in units(view, ties=True) if layer.path or layer.tensors}


def _as_one_layer(layers: Sequence[LayerView], view: ModelView) -> LayerView:
    return layers[0] if len(layers) == 1 else numbered(layers, view.side)


def _pair_named_tensors(
    torch: ModelView,
    keras: ModelView,
    torch_paths: Sequence[str],
    keras_paths: Sequence[str],
    transform: str | Transform | None,
    evidence: Evidence,
) -> Pair:
    headline = f"cannot pair a tensor of {torch.title} with one of {keras.title}"
    problems = [
        problem for view, paths in ((torch, torch_paths), (keras, keras_paths)) for problem in _ambiguous(view, paths)
    ]
    if problems:
        raise AlignmentError(lay_out(headline, problems))
    torch_tensors = {tensor.path: tensor for path in torch_paths for tensor in _tensors_named(torch, path)}
    keras_tensors = {tensor.path: tensor for path in keras_paths for tensor in _tensors_named(keras, path)}
    try:
        chosen = transform_between(tuple(torch_tensors.values()), tuple(keras_tensors.values()), transform)
        mapping = WeightMapping(torch=tuple(torch_tensors), keras=tuple(keras_tensors), transform=chosen)
        fact = misfit(mapping, torch_tensors, keras_tensors)
        if fact:
            raise TransformError(fact)
    except TransformError as error:
        fixes = call_that_fits(tuple(torch_tensors.values()), tuple(keras_tensors.values()))
        if fixes and _are_parts(torch, torch_tensors) and _are_parts(keras, keras_tensors):
            fixes += (REGISTER,)
        problem = Problem(
            torch=join_layers(torch_tensors), keras=join_layers(keras_tensors), fact=message_of(error), fixes=fixes
        )
        raise AlignmentError(lay_out(headline, [problem])) from None
    return pair_of_tensors([mapping], [evidence])


def _are_parts(view: ModelView, paths: Iterable[str]) -> bool:
    """Return whether tensors are parts of one layer of an unknown class, which a rule of the user may pair as a whole.

    Args:
        view: The view of the model.
        paths: The paths of the tensors.
    """
    wanted, known = set(paths), known_classes()[0 if view.side == "torch" else 1]
    layers = [layer for layer in view.layers if wanted < {tensor.path for tensor in layer.tensors}]
    return any(layer.path and not known.intersection(layer.kinds) for layer in layers)


def _ambiguous(view: ModelView, paths: Iterable[str]) -> Iterator[Problem]:
    """Yield a problem for each path that is expected to name one tensor, but names a layer with several tensors."""
    for path in paths:
        tensors = _tensors_named(view, path)
        if len(tensors) > 1:
            fact = (
                f"this layer has {count(len(tensors), 'tensor')}, so name one of them: "
                f"{', '.join(tensor.path for tensor in tensors)}"
            )
            yield Problem.on(view.side, path, fact)


def _tensors_named(view: ModelView, path: str) -> tuple[TensorRef, ...]:
    """Return the tensors that a path names: the tensor with this path, or all tensors of the layer with this path.

    Args:
        view: The view of the model.
        path: The path of a tensor or of a layer of the model.
    """
    tensors = tensors_by_path(view)
    return (tensors[path],) if path in tensors else _layers_by_path(view)[path].tensors
