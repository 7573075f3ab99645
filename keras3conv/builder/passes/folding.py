"""Short statements become one, and what nobody needs any more is overwritten, because that is faster.

The activation of what a layer returns stands around its call. A sum is made where one of its parts stood, if that part
is what a layer has just made and the layer does not need it to learn.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.program import Program, Step
from keras3conv.model.graph import refs

_CALL, SUM = "{module}({0})", "{0} + {1}"

_IN_PLACE = frozenset({"F.relu({0})", "F.relu6({0})", "F.silu({0})", "F.hardswish({0})"})
_NOT_KEPT = ("torch.nn.BatchNorm", "torch.nn.Conv", "torch.nn.Linear", f"{OWN_LAYERS}.UnevenConv")
"""Layers that need what they were given to learn, and not what they returned: that may be overwritten."""

_PASSED_ON = ("torch.nn.Dropout", f"{OWN_LAYERS}.SharedDropout")
"""Layers that return what they were given, or in training something new that they do not keep."""

_SCALED = re.compile(r"\{0\} [*+] [\d.]+")
"""A tensor and a number: no gradient needs what comes of it."""


def overwriting(program: Program) -> Program:
    """The program in which every sum that may stand where one of its parts stood says so; that part comes first."""
    makers, uses = _makers(program), uses_of(program)
    steps = tuple(_overwriting(step, program, makers, uses) for step in program.steps)
    return replace(program, steps=steps)


def folded(program: Program) -> Program:
    """The program in which `x = self.norm(x)` and `x = F.relu(x)` are `x = F.relu(self.norm(x), inplace=True)`."""
    makers, uses = _makers(program), uses_of(program)
    steps: list[Step] = []
    for step in program.steps:
        if steps and _belongs(step, steps[-1], uses):
            template = _around(step.template, program.modules[steps[-1].module].spec.kind)
            steps[-1] = replace(steps[-1], template=template, outputs=step.outputs)
        elif step.overwrites and step.inputs[0] not in makers:  # an argument of this class: another's to overwrite
            steps.append(replace(step, overwrites=False))
        elif step.template in _IN_PLACE and _is_free(step.inputs[0], program, makers, uses):
            steps.append(replace(step, template=_in_place(step.template)))
        else:
            steps.append(step)
    return replace(program, steps=tuple(steps))


def _makers(program: Program) -> Mapping[str, Step]:
    return {output: step for step in program.steps for output in step.outputs}


def uses_of(program: Program) -> Mapping[str, int]:
    """How often each value is used; that it is returned is a use."""
    uses: dict[str, int] = {}
    for name in [name for step in program.steps for name in step.inputs] + [ref.name for ref in refs(program.outputs)]:
        uses[name] = uses.get(name, 0) + 1
    return uses


def _overwriting(step: Step, program: Program, makers: Mapping[str, Step], uses: Mapping[str, int]) -> Step:
    if step.template != SUM or step.module:
        return step
    made = program.values[step.outputs[0]]
    for name, other in (step.inputs, step.inputs[::-1]):
        value = program.values[name]
        alike = (value.torch_shape, value.dtype) == (made.torch_shape, made.dtype) and "float" in made.dtype
        if alike and _is_free(name, program, makers, uses):
            return replace(step, inputs=(name, other), overwrites=True)
    return step


def _is_free(name: str, program: Program, makers: Mapping[str, Step], uses: Mapping[str, int]) -> bool:
    """Whether a value is new, needed once, and not kept by what made it."""
    maker = makers.get(name)
    if maker is None or uses[name] != 1:
        return False
    if maker.template == _CALL:
        kind = program.modules[maker.module].spec.kind
        passed = kind.startswith(_PASSED_ON) and _is_free(maker.inputs[0], program, makers, uses)
        return passed or kind.startswith(_NOT_KEPT)
    return maker.template == SUM or _SCALED.fullmatch(maker.template) is not None


def _around(template: str, kind: str) -> str:
    """The expression around the call of a layer; in place where that is as good."""
    written = template.replace("{0}", _CALL)
    return _in_place(written) if template in _IN_PLACE and kind.startswith(_NOT_KEPT) else written


def _in_place(template: str) -> str:
    return f"{template[:-1]}, inplace=True)"


def _belongs(step: Step, before: Step, uses: Mapping[str, int]) -> bool:
    plain = step.template.startswith(("F.", "torch.")) and step.template.count("{") == 1
    alone = before.template == _CALL and step.inputs == before.outputs and uses[before.outputs[0]] == 1
    return plain and alone and not step.module and not step.comment


__all__ = ["SUM", "folded", "overwriting", "uses_of"]
