"""Implement `keras3conv.convert`: build the model of the other framework, transfer the weights, and validate it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.builder.conversion import Conversion
from keras3conv.builder.program.layouts import Channels
from keras3conv.builder.program.own_rules import layout_hint, own_classes_note
from keras3conv.builder.source.moved_outputs import moved_outputs
from keras3conv.builder.to_torch.build import Built, build, has_own_sizes, require_none
from keras3conv.builder.to_torch.proof_inputs import SEED, finite_proof_inputs, proof_inputs
from keras3conv.errors import InputError, ModelError, Problem, require
from keras3conv.formats.torch.checkpoint import is_torchscript
from keras3conv.frameworks.adapter import Adapter, ModelFile
from keras3conv.frameworks.own_classes import require_classes
from keras3conv.frameworks.shared.inputs_given import dict_as_argument, only_array
from keras3conv.frameworks.shared.inputs_of_keras import fitted
from keras3conv.frameworks.sides import resolve
from keras3conv.garbage import rare_collections
from keras3conv.report.digests import digest_note
from keras3conv.report.report import Report
from keras3conv.report.stages import Stages
from keras3conv.report.values import NOT_CONVERTED, Section
from keras3conv.rules.registry import users_rules
from keras3conv.steps import step
from keras3conv.transforms import Array
from keras3conv.workflows.sources import files_of, read_file, require_weights, weights_read
from keras3conv.workflows.transfer import Options, transfer
from keras3conv.writing.digests import ReadFile

if TYPE_CHECKING:
    from keras3conv.formats.keras2.file import Saved


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
    live = _live_model(model, path)
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
    inputs, renamed = only_array(inputs, [spec.key or spec.name for spec in specs], required=len(specs))
    inputs, ordered = fitted(inputs, specs, "inputs", f"{model.name} (keras)")
    stages = Stages()
    with stages.stage("build the module"):
        built = build(model, channels, inputs)
    report = None
    if not validate:
        given = proof_inputs(built.graph, built.program)[0]
    else:
        try:
            report, given = _certified(built, model, stages, sources)
        except ModelError:
            if not has_own_sizes(built.graph):
                raise
            with stages.stage("build the module for inputs of the same sizes"):
                built = build(model, channels, inputs, shared=True)
            report, given = _certified(built, model, stages, sources)
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


def _certified(
    built: Built, model: Any, stages: Stages, sources: tuple[ReadFile, ...]
) -> tuple[Report, tuple[Array, ...]]:
    """Validate a module on random inputs of a usual size, or of a larger one that it needs.

    Args:
        built: The module.
        model: The Keras model.
        stages: The times of the conversion's stages.
        sources: The files that the Keras model was made of.

    Returns:
        The certificate (the report), and the inputs of the module.
    """
    given, keras_given = finite_proof_inputs(built.model, built.graph, built.program)
    larger, keras_larger = proof_inputs(built.graph, built.program, larger=True)
    try:
        return _proven(built, model, given, keras_given, stages, sources), given
    except ModelError:
        if [array.shape for array in larger] == [array.shape for array in given]:
            raise
    return _proven(built, model, larger, keras_larger, stages, sources), larger  # the model crops its input


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
    sides = adapter.source, built.model
    report = None
    if validate:
        origin = origin or "inputs given; those of Keras are the same arrays in Keras' layout"
        origin = f"{origin}; {renamed}" if renamed else origin
        report = _certificate(*sides, inputs, keras_given, built.alignment, stages, sources=read, origin=origin)
        own = own_classes_note(built.program, "model.keras and model.py need")
        paired = {path for mapping in built.alignment.mappings for path in mapping.torch}
        sections = tuple(_with_remarks(section, built.graph.remarks) for section in report.sections)
        notes = (*report.notes, *built.graph.remarks, *written_out(adapter.source, paired), *own)
        report = replace(report, sections=sections, notes=notes)
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


def _proven(
    built: Built, model: Any, inputs: Any, keras_given: Any, stages: Stages, sources: tuple[ReadFile, ...]
) -> Report:
    """Validate a module that was made from a Keras model, and return the certificate (the report).

    Args:
        built: The module.
        model: The Keras model.
        inputs: The inputs of the module.
        keras_given: The same inputs for the Keras model.
        stages: The times of the conversion's stages.
        sources: The files that the Keras model was made of.

    Raises:
        ModelError: A model cannot run on the inputs.
    """
    shapes = ", ".join(str(array.shape) for array in inputs)
    origin = f"random inputs of shape {shapes}, seed {SEED}, made by convert"
    sides = built.model, model
    try:
        report = _certificate(*sides, inputs, keras_given, built.alignment, stages, sources=sources, origin=origin)
    except ModelError as error:
        if hint := layout_hint(built.program):
            raise ModelError(f"{error.message}\n{hint}") from error
        raise
    further = (*moved_outputs(built.program), *own_classes_note(built.program, "model.py needs"))
    sections = tuple(_with_remarks(section, built.graph.remarks) for section in report.sections)
    return replace(report, sections=sections, notes=(*report.notes, *built.graph.remarks, *further))


def _with_remarks(section: Section, remarks: Sequence[str]) -> Section:
    """Return the section "hyperparameters" with a fact that lists what acts in training and was not converted.

    Other sections are returned unchanged.
    """
    if not remarks or section.name != "hyperparameters":
        return section
    return replace(section, facts={**section.facts, NOT_CONVERTED: "; ".join(remarks)})


def _certificate(
    torch: Any,
    keras: Any,
    inputs: Any,
    keras_inputs: Any,
    plan: Alignment,
    stages: Stages,
    *,
    sources: tuple[ReadFile, ...],
    origin: str,
) -> Report:
    """Validate a conversion and return the certificate (the report of the validation).

    Args:
        torch: The torch model.
        keras: The Keras model.
        inputs: The inputs of the torch model.
        keras_inputs: The inputs of the Keras model.
        plan: The plan (the pairs of tensors).
        stages: The times of the conversion's stages, which come first among the times in the certificate.
        sources: The files that the source model was made of, whose digests the certificate states.
        origin: The origin of the inputs, for the report.
    """
    from keras3conv.validators.running.options import Options
    from keras3conv.workflows.validate import validate

    given = {"inputs": inputs, "keras_inputs": keras_inputs, "origin": origin}
    report = validate(torch, keras, **given, plan=plan, options=Options())
    notes = (*report.notes, *map(digest_note, sources))
    read = (*report.sources, *sources)
    return replace(report, notes=notes, sources=read, seconds={**stages.seconds, **report.seconds})


def _live_model(model: Any, weights: Path | None) -> Any:
    """Return a model as a live object: the model itself, or the model that is loaded from a file.

    Layers that Keras cannot load safely, without running code from the file, are refused.

    Args:
        model: A live model, or the path of a file with an architecture.
        weights: A file with the weights, if they are not those of the model.
    """
    if formats.is_architecture(model):
        return _from_json(Path(model), weights)
    given = resolve(model)
    with step("read the model"):
        return _opened(given, weights)


def _opened(adapter: Adapter, weights: Path | None) -> Any:
    loaded = adapter.source if adapter.is_live else _loaded(adapter.source)
    if weights is not None:
        from keras3conv.frameworks.keras import files as keras_files

        keras_files.load_weights(loaded, weights)
    return loaded


def _loaded(path: Path) -> Any:
    layers = formats.read(path).layers
    if not any(layer.config for layer in layers):
        raise InputError(
            f"{path} contains weights, but no architecture, so it cannot be converted to a module\n"
            f'Fix:  k3c.transfer("{path}", module, plan)     or     k3c.convert(model, weights="{path}")'
        )
    from keras3conv.formats.keras2.file import saved_model
    from keras3conv.frameworks.keras import files as keras_files

    if saved := saved_model(path):
        return _of_keras_2(saved, path)
    _require_writable([(layer.path, layer.kind) for layer in layers], path)
    return keras_files.load(path)


def _require_writable(layers: Sequence[tuple[str, str]], path: Path) -> None:
    """Raise `UnsupportedLayerError` if Keras cannot load some layers of a file.

    The message then also lists the layers without a counterpart in torch. If Keras can load all layers, the missing
    counterparts are found later in the live model, which also has the configurations of its layers.
    """
    from keras3conv.builder.operations.refused import refusal
    from keras3conv.frameworks.keras import files as keras_files

    problems = {problem.keras: problem for problem in keras_files.unloadable(layers, path)}
    if problems:
        kinds = ((name, keras_files.kind_in_models(kind)) for name, kind in layers if name not in problems)
        refused = ((name, refusal(kind)) for name, kind in kinds)
        problems |= {name: Problem(keras=name, fact=fact) for name, fact in refused if fact}
    require_none(path.name, tuple(problems[name] for name, _ in layers if name in problems))


def _from_json(path: Path, weights: Path | None) -> Any:
    from keras3conv.formats.keras import json as keras_json
    from keras3conv.formats.keras2.file import saved_model
    from keras3conv.frameworks.keras import architecture

    require_weights(path, weights, f'k3c.convert("{path}", weights="model.weights.h5")')
    layers = [(name, layer.kind) for name, layer in keras_json.read(path).walk()]
    if saved := saved_model(path):
        return _of_keras_2(saved, weights)
    _require_writable(layers, path)
    return architecture.made(path, None, weights)


def _of_keras_2(saved: "Saved", weights: Path | None) -> Any:
    """Return a Keras 3 model made from an architecture that Keras 2 saved, with the weights of a Keras 2 file."""
    from keras3conv.frameworks.keras.keras2.reading import problems_of, read_model

    other = None if weights == saved.path else weights
    require_none(saved.path.name, problems_of(saved, other))
    return read_model(saved, other)
