"""List the files from which the model of a command was made; the report of the command states their digests."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras3conv.cli.app import imported_code

if TYPE_CHECKING:
    from keras3conv.frameworks.adapter import Adapter
    from keras3conv.writing.digests import ReadFile


def code_read(*arguments: str) -> tuple[Path, ...]:
    """Return the Python files of the factories among the arguments of a command, and those of --import."""
    from keras3conv.workflows.factories import code_of_factories

    return tuple(dict.fromkeys((*code_of_factories(*arguments), *imported_code())))


def files_read(
    argument: str, model: "Adapter | None", torch_weights: Path | None, keras_weights: Path | None, entry: str
) -> "tuple[ReadFile, ...]":
    """Return the files from which a live model was made, with digests: those of --import, the factory, the weights.

    Args:
        argument: The argument that names the model.
        model: The model, as an adapter (the interface to a model); None for a file that the command itself opens.
        torch_weights: The weights that were loaded if it is a torch module.
        keras_weights: The weights that were loaded if it is a Keras model.
        entry: The name of the state dict, if a torch checkpoint holds several.
    """
    from keras3conv.workflows.factories import Weights, files_of_factory
    from keras3conv.workflows.sources import read_file

    weights = Weights(torch=torch_weights, keras=keras_weights, entry=entry)
    made = files_of_factory(argument, weights, model.side) if model and model.is_live else ()
    return tuple(dict.fromkeys((*map(read_file, imported_code()), *made)))
