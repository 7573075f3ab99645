"""Finish a Keras program (the list of statements of a model): remove dead code, merge permutations."""

from dataclasses import replace

from keras3conv.builder.passes.fusing import with_fused_forms
from keras3conv.builder.passes.joining import with_joined_parts
from keras3conv.builder.passes.permuting import without_permuted_products
from keras3conv.builder.program.program import Program, Step
from keras3conv.model.graph import refs


def finished(program: Program) -> Program:
    """Return the program without the steps, layers and constants that no output needs, and with permutations merged."""
    needed = {ref.name for ref in refs(program.outputs)}
    kept: list[Step] = []
    for step in reversed(program.steps):
        if needed & {*step.outputs}:
            kept.append(step)
            needed.update(step.inputs)
    used = {step.module for step in kept}
    pruned = replace(
        program,
        steps=tuple(reversed(kept)),
        modules={name: module for name, module in program.modules.items() if name in used},
        weights={name: weight for name, weight in program.weights.items() if name in needed},
    )
    return with_fused_forms(with_joined_parts(without_permuted_products(pruned)))
