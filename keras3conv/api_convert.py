"""`convert`: the other model is built, filled, and proven to be the same."""

from pathlib import Path
from typing import Any

from keras3conv.builder.conversion import Conversion
from keras3conv.builder.layouts import Channels
from keras3conv.builder.to_torch import build, proof_inputs
from keras3conv.errors import InputError
from keras3conv.frameworks.detect import side_and_form


def convert(model: Any, *, channels: Channels, inputs: Any, validate: bool) -> Conversion:
    """See `keras3conv.convert`."""
    side, form = side_and_form(model)
    if side != "keras":
        raise InputError("convert makes torch modules of Keras models: the argument is of the torch side")
    if channels not in ("first", "last"):
        raise InputError(f'channels is {channels!r}: it must be "first" or "last"')
    if form == "file":
        from keras3conv.frameworks import keras_files

        model = keras_files.load(Path(model))
    built = build(model, channels, inputs)
    given, keras_given = proof_inputs(built)
    report = None
    if validate:
        from keras3conv import api_validate
        from keras3conv.validators.options import Options

        report = api_validate.validate(
            built.model, model, inputs=given, keras_inputs=keras_given, plan=built.alignment, options=Options()
        )
    return Conversion(
        model=built.model,
        source=built.source,
        alignment=built.alignment,
        report=report,
        graph=built.graph,
        program=built.program,
        inputs=given,
    )
