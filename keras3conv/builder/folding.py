"""Short statements become one: the activation of what a layer returns stands around its call."""

from dataclasses import replace

from keras3conv.builder.program import Program, Step
from keras3conv.graph import refs

_CALL = "{module}({0})"


def folded(program: Program) -> Program:
    """The program in which `x = self.norm(x)` and `x = F.relu(x)` are `x = F.relu(self.norm(x))`."""
    uses: dict[str, int] = {}
    for name in [name for step in program.steps for name in step.inputs] + [ref.name for ref in refs(program.outputs)]:
        uses[name] = uses.get(name, 0) + 1
    steps: list[Step] = []
    for step in program.steps:
        if steps and _belongs(step, steps[-1], uses):
            template = step.template.replace("{0}", _CALL)
            steps[-1] = replace(steps[-1], template=template, outputs=step.outputs)
        else:
            steps.append(step)
    return replace(program, steps=tuple(steps))


def _belongs(step: Step, before: Step, uses: dict[str, int]) -> bool:
    plain = step.template.startswith(("F.", "torch.")) and step.template.count("{") == 1
    alone = before.template == _CALL and uses[before.outputs[0]] == 1 and step.inputs == before.outputs
    return plain and alone and not step.module and not step.comment
