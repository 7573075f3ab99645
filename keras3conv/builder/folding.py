"""Short statements become one: the activation of what a layer returns stands around its call."""

from dataclasses import replace

from keras3conv.builder.program import Program, Step
from keras3conv.graph import refs

_CALL = "{module}({0})"

_IN_PLACE = frozenset({"F.relu({0})", "F.relu6({0})", "F.silu({0})", "F.hardswish({0})"})
_NOT_KEPT = ("torch.nn.BatchNorm", "torch.nn.Conv", "torch.nn.Linear")
"""Layers that need what they were given to learn, and not what they returned: that may be overwritten."""


def folded(program: Program) -> Program:
    """The program in which `x = self.norm(x)` and `x = F.relu(x)` are `x = F.relu(self.norm(x))`."""
    uses: dict[str, int] = {}
    for name in [name for step in program.steps for name in step.inputs] + [ref.name for ref in refs(program.outputs)]:
        uses[name] = uses.get(name, 0) + 1
    steps: list[Step] = []
    for step in program.steps:
        if steps and _belongs(step, steps[-1], uses):
            template = _around(step.template, program.modules[steps[-1].module].spec.kind)
            steps[-1] = replace(steps[-1], template=template, outputs=step.outputs)
        else:
            steps.append(step)
    return replace(program, steps=tuple(steps))


def _around(template: str, kind: str) -> str:
    """The expression around the call of a layer; in place where that is as good, because it is faster."""
    written = template.replace("{0}", _CALL)
    return f"{written[:-1]}, inplace=True)" if template in _IN_PLACE and kind.startswith(_NOT_KEPT) else written


def _belongs(step: Step, before: Step, uses: dict[str, int]) -> bool:
    plain = step.template.startswith(("F.", "torch.")) and step.template.count("{") == 1
    alone = before.template == _CALL and uses[before.outputs[0]] == 1 and step.inputs == before.outputs
    return plain and alone and not step.module and not step.comment
