"""Find what a converted model takes from the user's code: layer classes, and rules that may need another axis order."""

from collections.abc import Iterator, Mapping

from keras3conv.builder.program.program import Program
from keras3conv.errors import RuleError
from keras3conv.frameworks.torch.constructors import misfit
from keras3conv.rules.library import find
from keras3conv.rules.registry import is_users_own

_OF_FRAMEWORKS = ("keras.", "torch.", "keras3conv.")

_IMAGE = 3
"""The least number of axes of an image: batch, channels, and at least one spatial axis."""


def layout_hint(program: Program) -> str:
    """Return a warning for each user-defined rule that may need another axis order for images; "" if there is none.

    The layer that such a rule creates gets images in the axis order of the source framework. That is right for a layer
    that treats all axes alike, and wrong for one that acts on the channels.
    """
    return "; ".join(dict.fromkeys(_hints(program)))


def own_classes(program: Program) -> tuple[str, ...]:
    """Return the classes of the user's own layers that the generated source creates, such as "my_package.MyLayer".

    Args:
        program: The statements of the generated source, before they are written as text.
    """
    kinds = (module.spec.kind for module in program.modules.values())
    return tuple(dict.fromkeys(kind for kind in kinds if not kind.startswith((".", *_OF_FRAMEWORKS))))


def own_classes_note(program: Program, needed_by: str) -> tuple[str, ...]:
    """Return a note that names the user's own classes in a conversion, in a tuple; () if the model has none.

    Args:
        program: The converted model.
        needed_by: The start of the note, such as "model.py needs".
    """
    found = [kind.rpartition(".")[::2] for kind in own_classes(program)]
    if not found:
        return ()
    named = ", ".join(f"{name} of {module}" for module, name in found)
    how = "model.py imports their modules, which must be on the path"
    if "model.keras" in needed_by:
        how += "; import them yourself before you load model.keras"
    note = f"{needed_by} classes of yours: {named}. {how}"
    if any(module == "__main__" for module, _ in found):
        note += ". No other program can import from __main__: move the classes into a module, and convert again"
    return (note,)


def require_arguments(program: Program, function: str) -> None:
    """Raise `RuleError` if a rule of the user gives a class other arguments than its constructor takes.

    Args:
        program: The converted model.
        function: The function of the rule that made the arguments: "to_torch" or "to_keras".
    """
    for module in program.modules.values():
        kind, given = module.spec.kind, tuple(module.spec.config)
        if kind.startswith((".", *_OF_FRAMEWORKS)):
            continue
        missing, unknown = misfit(kind, given)
        needed = [f"{kind} also needs {', '.join(missing)}"] if missing else []
        needed += [f"{kind} does not take {', '.join(unknown)}"] if unknown else []
        if needed:
            rule = f"the rule {module.rule}" if module.rule else f"the rule for {kind}"
            raise RuleError(
                f"{function} of {rule} returned {', '.join(given) or 'no arguments'} for the layer "
                f"{module.source or module.name}; {', and '.join(needed)}: {_WHERE[function]}"
            )


_WHERE = {
    "to_torch": (
        "specs[0].config has what get_config of the Keras layer returns, and specs[0].shapes the shapes of its "
        'variables by name, such as specs[0].shapes["kernel"][0]'
    ),
    "to_keras": "config has the attributes of the module that `fields` of the rule names",
}
"""The places where a rule finds arguments, for each of its two functions."""


def _hints(program: Program) -> Iterator[str]:
    ranks = _ranks(program)
    for module in program.modules.values():
        if not module.rule or ranks.get(module.name, 0) < _IMAGE:
            continue
        rule = find(module.rule)
        if is_users_own(rule) and rule.layout == "same":
            yield (
                f"the rule {rule.name} has layout='same'; a layer that acts on channels of images needs "
                "layout='channels'"
            )


def _ranks(program: Program) -> Mapping[str, int]:
    """Return the number of axes of the first input of each submodule, by the submodule's name."""
    calls = [step for step in program.steps if step.module and step.inputs]
    return {step.module: program.values[step.inputs[0]].rank for step in calls}
