"""Implement `keras3conv.convert`: build the model of the other framework, transfer the weights, and validate it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.builder.conversion import Conversion
from keras3conv.builder.program.layouts import Channels
from keras3conv.builder.program.own_rules import own_classes_note
from keras3conv.builder.to_torch.build import build, has_own_sizes
from keras3conv.builder.to_torch.proof_inputs import proof_inputs
from keras3conv.errors import InputError, ModelError, require
from keras3conv.formats.torch.checkpoint import is_torchscript
from keras3conv.frameworks.adapter import Adapter, ModelFile
from keras3conv.frameworks.own_classes import require_classes
from keras3conv.frameworks.shared.inputs_named import dict_as_argument, only_array
from keras3conv.frameworks.shared.inputs_of_keras import fitted
from keras3conv.frameworks.sides import resolve
from keras3conv.garbage import rare_collections
from keras3conv.report.report import Report
from keras3conv.report.stages import Stages
from keras3conv.rules.registry import users_rules
from keras3conv.workflows.certificate import certificate, certified
from keras3conv.workflows.opening import live_model
from keras3conv.workflows.sources import files_of, read_file, weights_read
from keras3conv.workflows.transfer import Options, transfer
from keras3conv.writing.digests import ReadFile


@rare_collections()
def convert(  # noqa: PLR0913 - an argument for every option
    model: Any,
    *,
    weights: str | PathLike[str] | None,
    channels: Channels | None,
    inputs: Any,
    dynamic: Any,
    validate: bool,
    entry: str = "",
    read: Sequence[ReadFile] = (),
    origin: str = "",
) -> Conversion:
    """Convert a model to the other framework; see `keras3conv.convert`.

    Args:
        model: The model, or its file.
        weights: A file of weights to load into the model first.
        channels: The layout of images in the inputs and outputs of the new model.
        inputs: The inputs of the model.
        dynamic: The dynamic axes of a torch module.
        validate: Whether to validate the new model.
        entry: The name of the state dict in a torch checkpoint of weights that holds several.
        read: The files from which a live model was loaded; the report of the validation states their digests.
        origin: The origin of inputs that the user did not give, for the report of the validation.
    """
    require("convert", "torch", "keras")
    for rule in users_rules():
        require_classes(rule)
    if channels not in (None, "first", "last"):
        raise InputError(f'channels must be "first" or "last", but is {channels!r}')
    path = None if weights is None else Path(weights)
    named = Path(model) if isinstance(model, str | PathLike) else None
    sources = _Sources(read=tuple(read), model=named, weights=path, entry=entry)
    if isinstance(model, str | PathLike) and (Path(model) / "config.json").is_file():
        from keras3conv.frameworks.torch import pretrained

        model = pretrained.load(Path(model))
    if isinstance(model, str | PathLike) and str(model).lower().endswith(".pt2"):
        from keras3conv.frameworks.torch import saved_program

        model = saved_program.load(Path(model))
    if not formats.is_architecture(model) and (given := resolve(model)).side == "torch":
        return _to_keras(given, sources, channels or "last", inputs, dynamic, origin, validate=validate)
    if entry:
        raise InputError(f"entry names a state dict of a torch checkpoint, but a Keras model is converted: {entry!r}")
    live = live_model(model, path)
    return _to_torch(live, channels or "first", inputs, sources.digests(), validate=validate)


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """The files from which the source model is made.

    Attributes:
        read: The files that a live model was loaded from by the caller, to state their digests.
        model: The file of the model, or the folder of a model of transformers; None for a live model.
        weights: The file of weights to load into the model.
        entry: The name of the state dict, if the file of weights holds several.
    """

    read: tuple[ReadFile, ...]
    model: Path | None
    weights: Path | None
    entry: str

    def digests(self) -> tuple[ReadFile, ...]:
        """Return the name, the size and the digests of every file; an index includes its shards."""
        model = () if self.model is None else tuple(map(read_file, _files_of_model(self.model)))
        weights = () if self.weights is None else weights_read(self.weights, self.entry)
        return tuple(dict.fromkeys((*self.read, *model, *weights)))


def _transfer(source: Any, target: Any, plan: Alignment, out: tuple[Path, ...], *, overwrite: bool) -> Report:
    """Transfer weights back to the model from which a module was made, and return the report.

    This function is the attribute `transfer` of a `Conversion`.
    """
    return transfer(source, target, plan, Options(out=out, overwrite=overwrite))


def _files_of_model(source: Path) -> tuple[Path, ...]:
    """Return the files of a model that was named by a path: a folder of transformers, an index, or a single file."""
    config = source / "config.json"
    if not config.is_file():
        return files_of(source)
    whole = source / "model.safetensors"
    return (config, *files_of(whole if whole.is_file() else source / "model.safetensors.index.json"))


def _to_torch(
    model: Any, channels: Channels, inputs: Any, sources: tuple[ReadFile, ...], *, validate: bool
) -> Conversion:
    from keras3conv.frameworks.keras.model import input_specs

    specs = input_specs(model)
    inputs, renamed = only_array(inputs, [spec.argument for spec in specs], required=len(specs))
    inputs, ordered = fitted(inputs, specs, "inputs", f"{model.name} (keras)")
    stages = Stages()
    with stages.stage("build the module"):
        built = build(model, channels, inputs)
    report = None
    if not validate:
        given = proof_inputs(built.graph, built.program)[0]
    else:
        try:
            report, given = certified(built, model, stages, sources)
        except ModelError:
            if not has_own_sizes(built.graph):
                raise
            with stages.stage("build the module for inputs of the same sizes"):
                built = build(model, channels, inputs, shared=True)
            report, given = certified(built, model, stages, sources)
        report = replace(report, notes=(*report.notes, *filter(None, (renamed, ordered))))
    return Conversion(
        model=built.model,
        source=built.source,
        alignment=built.alignment,
        report=report,
        graph=built.graph,
        program=built.program,
        inputs=given,
        sources=sources,
        transfer=_transfer,
    )


def _to_keras(
    adapter: Adapter, sources: _Sources, channels: Channels, inputs: Any, dynamic: Any, origin: str, *, validate: bool
) -> Conversion:
    from keras3conv.builder.to_keras import build as to_keras
    from keras3conv.frameworks.torch.view import arguments, keywords
    from keras3conv.frameworks.torch.written_out import written_out

    if isinstance(adapter, ModelFile):
        if is_torchscript(adapter.source):
            raise InputError(
                f"{adapter.source} is TorchScript, which torch.export cannot capture\n"
                "Fix:  k3c.convert(module, inputs=example_input)  # the nn.Module that it was made from"
            )
        raise InputError(
            f"{adapter.source} contains weights, but no architecture, so a Keras model cannot be made from it\n"
            f'Fix:  k3c.convert(module, weights="{adapter.source}", inputs=example_input)'
        )
    if inputs is None:
        raise InputError(
            "a torch module has no input specification, so example inputs are needed to convert it\n"
            "Fix:  k3c.convert(module, inputs=torch.zeros(1, 3, 224, 224))"
        )
    if sources.weights is not None:
        adapter.load_weights(sources.weights, entry=sources.entry)
    names, required = arguments(adapter.source)
    inputs, renamed = only_array(inputs, names, required=required)
    inputs, as_argument = dict_as_argument(inputs, keywords(adapter.source), required=required)
    renamed = renamed or as_argument
    read = sources.digests()
    stages = Stages()
    with stages.stage("build the Keras model"):
        built = to_keras.build(adapter.source, channels, inputs, dynamic)
    keras_inputs = to_keras.proof_inputs(adapter.source, built.program, inputs)
    keras_given = keras_inputs[0] if len(keras_inputs) == 1 else list(keras_inputs)
    report = None
    if validate:
        origin = origin or "inputs given; those of Keras are the same arrays in Keras' layout"
        origin = f"{origin}; {renamed}" if renamed else origin
        report = certificate(
            built, adapter.source, built.model, inputs, keras_given, stages, sources=read, origin=origin
        )
        own = own_classes_note(built.program, "model.keras and model.py need")
        paired = {path for mapping in built.alignment.mappings for path in mapping.torch}
        report = replace(report, notes=(*report.notes, *written_out(adapter.source, paired), *own))
    return Conversion(
        model=built.model,
        source=built.source,
        alignment=built.alignment,
        report=report,
        graph=built.graph,
        program=built.program,
        inputs=keras_inputs,
        sources=read,
        target="keras",
        constants=built.constants,
    )
