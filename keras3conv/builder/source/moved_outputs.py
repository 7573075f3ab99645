"""Describe the outputs of a torch module whose axes are in another order than in Keras."""

from keras3conv.builder.program.program import Program, identity
from keras3conv.builder.source.torch_source import described
from keras3conv.model.graph import refs


def moved_outputs(program: Program) -> tuple[str, ...]:
    """Return a sentence for each output of a torch module whose axes are in another order than in Keras.

    Args:
        program: The program of a torch module that was made from a Keras model.
    """
    values = [program.values[ref.name] for ref in refs(program.outputs)]
    names = program.output_names if len(values) == len(program.output_names) > 1 else [""] * len(values)
    outputs = zip(values, names, program.output_orders, strict=True)
    return tuple(
        f"output {number}{f' ({name})' if name else ''} is {described(value.target_shape)}, channels second; "
        f'Keras returns {described(value.shape)}; channels="last" keeps Keras\' order'
        for number, (value, name, order) in enumerate(outputs)
        if order != identity(len(order))
    )
