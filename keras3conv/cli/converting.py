"""Define the command `convert`."""

from pathlib import Path
from typing import Annotated

import typer

from keras3conv.cli.app import command, note
from keras3conv.cli.handing import hand_out_conversion
from keras3conv.cli.options import Debug, DynamicAxes, EntryName, Json, KerasWeights, Overwrite, Shape, TorchWeights
from keras3conv.cli.read import files_read
from keras3conv.workflows.user_code import notes_to_stderr


@command("keras3conv convert model.h5 -o folder/")
def convert(  # noqa: PLR0913 - an argument for every option
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A .keras, .h5, .json, .pt2, a folder, or a factory.")],
    *,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="The folder for model.py and the weights.")
    ],
    channels: Annotated[
        str | None, typer.Option(metavar="first|last", help="Where the new model takes the channels of images.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz", help="Inputs of the source, in its layout. Of a Keras model: for their shapes."
        ),
    ] = None,
    shape: Shape = None,
    dynamic: DynamicAxes = None,
    torch_weights: TorchWeights = None,
    keras_weights: KerasWeights = None,
    entry: EntryName = "",
    validate: Annotated[
        bool, typer.Option("--validate/--no-validate", help="Compare both models. Without it nothing is proven.")
    ] = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Convert a model to the other framework, and prove that both compute the same.

    If a proof fails, the model and its report are saved all the same, and the exit status is 1.
    """
    from keras3conv.builder.conversion import require_place
    from keras3conv.cli.files import convert_inputs, read_axes
    from keras3conv.workflows.factories import Weights, require_used_by_convert, resolve
    from keras3conv.workflows.files import random_origin

    require_place(out, overwrite=overwrite)
    arrays, axes = convert_inputs(inputs, shape), read_axes(dynamic or ())
    from keras3conv.builder.source.moved_outputs import moved_outputs  # these import torch: after the options
    from keras3conv.workflows.convert import convert as run

    weights = Weights(torch=torch_weights, keras=keras_weights, entry=entry)
    require_used_by_convert(weights, model, found := None if _is_opened_by_convert(model) else resolve(model, weights))
    given = (found.source, None, "") if found and found.is_live else (Path(model), keras_weights, entry)
    with notes_to_stderr():
        made = run(
            given[0],
            weights=given[1],
            channels=channels,  # type: ignore[arg-type]
            inputs=arrays,
            dynamic=axes,
            validate=validate,
            entry=given[2],
            read=files_read(model, found, torch_weights, keras_weights, entry),
            origin=random_origin(arrays.shape) if shape else "",
        )
        for file in made.save(out, overwrite=overwrite):
            note(f"saved {file.path}")
    moved = moved_outputs(made.program) if made.target == "torch" else ()
    return hand_out_conversion(made.report, out / "report.html", as_json=as_json, notes=moved)


def _is_opened_by_convert(model: str) -> bool:
    """Return True for a .json (architecture), a .pt2 (program) or a transformers folder, which only `convert` reads."""
    return model.endswith((".json", ".pt2")) or Path(model, "config.json").is_file()
