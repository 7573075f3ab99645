"""Find the rules of the user that fit no two layers of their classes, and name the mistake: a name, or a transform."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from keras3conv.alignment.pair import Plan, misfit
from keras3conv.errors import Problem
from keras3conv.model.paths import separator
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef
from keras3conv.rules.applying import keras_shapes, mappings_of, torch_config
from keras3conv.rules.constants import is_constant
from keras3conv.rules.registry import users_rules
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.rules.stored import torch_names, weights_without_settings
from keras3conv.rules.stored_units import has_names, is_torch_file, modules_of
from keras3conv.rules.units import children_of, whole_of

_MOST = 0.5
"""A module of a file has more than this share of the names in it and in a rule if the rule may be a misspelled one."""

_NO_SETTINGS = "it reads settings of the layer, which a file of weights does not have"


@dataclass(frozen=True, kw_only=True)
class UnfitRule:
    """A rule of the user that fits no two layers of its classes, with the mistake in the first two of them.

    Attributes:
        rule: The rule.
        torch: The first torch layer of its class, with the tensors of its inner layers.
        keras: The first Keras layer of its class, with the variables of its inner layers.
        fact: The mistake: "torch 1 has no temperature, and the rule does not name its temp".
    """

    rule: Rule
    torch: LayerView
    keras: LayerView
    fact: str

    @property
    def note(self) -> str:
        """A sentence that compares all names of the rule with those of the two layers."""
        if self.fact == _NO_SETTINGS:
            return f"your rule {self.rule.name} was not used: {self.fact}"
        mappings = _all_mappings(self.rule, self.torch, self.keras)
        wanted = [", ".join(_names(mappings, "torch")), ", ".join(_names(mappings, "keras"))]
        return (
            f"your rule {self.rule.name} was not used: it maps {wanted[0] or 'nothing'} to {wanted[1] or 'nothing'}, "
            f"but in torch {self.torch.path} has {_with_shapes(self.torch.shapes)}, and in Keras {self.keras.path} has "
            f"{_with_shapes(keras_shapes(self.rule, self.keras))}; {self.fact}: correct the rule ({self.rule.origin})"
        )

    @property
    def problem(self) -> Problem:
        """The problem of a plan that cannot be completed without this rule."""
        remedy = f"first correct the rule in {self.rule.origin}: {self.fact}"
        if self.fact == _NO_SETTINGS:
            remedy = "with the Keras model or its .keras file, not its file of weights"
        fix = f"plan = k3c.align(torch, keras)  # {remedy}"
        return Problem(
            torch=self.torch.path,
            fact=f"your rule {self.rule.name} was not used: {self.fact}",
            fixes=(fix,),
        )

    def concerns(self, view: ModelView, path: str) -> bool:
        """Return whether a path is that of a layer of the rule's class in a model, or of anything inside it."""
        between = separator(view.side)
        kind = self.rule.torch if view.side == "torch" else self.rule.keras
        outer = _of_torch_class(view, self.rule) if is_torch_file(view) else _of_class(view, kind)
        return any(not one.path or path == one.path or path.startswith(f"{one.path}{between}") for one in outer)


def unfit_rules(torch: ModelView, keras: ModelView) -> Iterator[UnfitRule]:
    """Yield each rule of the user that fits no two layers of its classes, although both models have such layers.

    A rule fits two layers if it names all of their tensors, no others, and its transforms fit the shapes. Two layers
    with different numbers of values are no evidence against a rule: not the rule, but the models differ.

    A torch file has no classes. There, the layers of a class are the modules that have the tensors of the rule; if none
    has all of them, they are those that have most, if these are more than half.
    """
    for rule in users_rules():
        if (rule.torch_count, rule.keras_count) != (1, 1):
            continue
        others = _of_class(keras, rule.keras)
        layers = [layer for layer in _of_torch_class(torch, rule) if rule.may_apply(layer)] if others else []
        seen: dict[tuple[str, ...], str] = {}
        found = [(one, other, _mistake(rule, one, other, seen)) for one in layers for other in others]
        if found and all(fact for _, _, fact in found):
            yield UnfitRule(rule=rule, torch=found[0][0], keras=found[0][1], fact=found[0][2])


def with_unfit_rules(plan: Plan, problems: Sequence[Problem]) -> Iterator[Problem]:
    """Yield the problems of a plan; before those with layers of a rule of the user that fits none, yield its mistake.

    Only the problem with the rule then has a line to paste: to ignore the layers would hide the mistake.

    Args:
        plan: The plan.
        problems: The problem of each layer whose tensors the plan neither pairs nor ignores.
    """
    unfit = unfit_rules(plan.torch, plan.keras) if problems else ()
    for one in unfit:
        views = {problem: plan.torch if problem.torch else plan.keras for problem in problems}
        concerned = {problem for problem in problems if one.concerns(views[problem], problem.torch or problem.keras)}
        if concerned:
            yield one.problem
            problems = [_without_line(entry) if entry in concerned else entry for entry in problems]
    yield from problems


def _without_line(problem: Problem) -> Problem:
    return Problem(torch=problem.torch, keras=problem.keras, fact=problem.fact)


def _of_class(view: ModelView, kind: str) -> list[LayerView]:
    """Return the layers of a class, each with the tensors of its inner layers."""
    found = [layer for layer in view.layers if kind in layer.kinds]
    children = children_of(view) if found else {}
    return [whole_of(layer, children, view.side) for layer in found]


def _of_torch_class(view: ModelView, rule: Rule) -> list[LayerView]:
    """Return the torch layers of a rule's class; in a file, those whose tensors have the names of the rule."""
    if not is_torch_file(view):
        return _of_class(view, rule.torch)
    modules, named = modules_of(view), torch_names(rule)
    if fitting := [one for one in modules if any(has_names(rule, names, one) for names in named)]:
        return fitting
    shares = [
        max((len(names & one.shapes.keys()) / len(names | one.shapes.keys()) for names in named if names), default=0.0)
        for one in modules
    ]
    most = max(shares, default=0.0)
    return [one for one, share in zip(modules, shares, strict=True) if share == most > _MOST]


def _mistake(rule: Rule, torch: LayerView, keras: LayerView, seen: dict[tuple[str, ...], str]) -> str:
    """Return why a rule does not fit two layers of its classes; empty if it fits, or if the two layers differ in size.

    Args:
        rule: The rule.
        torch: The torch layer.
        keras: The Keras layer.
        seen: The results for layers with the same tensors and settings; a new result is added in place.
    """
    key = tuple(map(str, (torch.shapes, torch.config, keras.shapes, keras.config)))
    if key not in seen:
        seen[key] = _wrong_names(rule, torch, keras) or _wrong_shapes(rule, torch, keras)
    return seen[key]


def _wrong_names(rule: Rule, torch: LayerView, keras: LayerView) -> str:
    """Return the names in a rule that its layers do not have, and those that it leaves out; empty if there are none."""
    mappings = mappings_of(rule, torch, keras)
    if mappings is None:
        return _NO_SETTINGS if keras.config is None and weights_without_settings(rule) is None else ""
    needed = [one.role for one in torch.tensors if one.role not in rule.ignored and not is_constant(one)]
    sides: tuple[tuple[Side, str, Iterable[str], Iterable[str]], ...] = (
        ("torch", f"torch {torch.path}", needed, torch.shapes),
        ("keras", f"Keras {keras.path}", keras_shapes(rule, keras), keras_shapes(rule, keras)),
    )
    facts = []
    for side, layer, wanted, held in sides:
        left = [role for role in wanted if role not in _names(mappings, side)]
        named = _names(_all_mappings(rule, torch, keras) if left else mappings, side)
        if missing := [name for name in named if name not in held]:
            facts.append(f"{layer} has no {', '.join(missing)}")
        if left:
            facts.append(f"the rule does not name {', '.join(left)} of {layer}")
    return ", and ".join(facts)


def _wrong_shapes(rule: Rule, torch: LayerView, keras: LayerView) -> str:
    """Return the first transform of a rule that does not fit the shapes of two layers with equally many values."""
    first: dict[str, TensorRef] = {tensor.role: tensor for tensor in torch.tensors}
    second = {rule.aliases.get(tensor.role, tensor.role): tensor for tensor in keras.tensors}
    mappings = mappings_of(rule, torch, keras) or ()
    sizes = [
        sum(prod(tensors[name].shape) for name in names if name in tensors)
        for names, tensors in ((_names(mappings, "torch"), first), (_names(mappings, "keras"), second))
    ]
    if sizes[0] != sizes[1]:
        return ""
    return next((fact for mapping in mappings if (fact := misfit(mapping, first, second))), "")


def _all_mappings(rule: Rule, torch: LayerView, keras: LayerView) -> Sequence[WeightMapping]:
    """Return the mappings of a rule, those included whose tensors neither layer has."""
    config = torch_config(rule, torch, keras)
    return (mappings_of(rule, torch, keras) or ()) if config is None else rule.weights(config)


def _names(mappings: Iterable[WeightMapping], side: Side) -> list[str]:
    return [name for mapping in mappings for name in mapping.names(side)]


def _with_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the names and the shapes of tensors."""
    return ", ".join(f"{role} {shape}" for role, shape in shapes.items()) or "no tensors"
