"""Define the public functions. Every function takes models as live objects or as paths of files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import InputError
from keras3conv.frameworks.adapter import Model
from keras3conv.frameworks.random_state import random_state_kept
from keras3conv.numerics.judgement import Tolerance
from keras3conv.planner.evidence.hints import Hints
from keras3conv.report.report import Report

if TYPE_CHECKING:
    from keras3conv.builder.conversion import Conversion


@random_state_kept()
def align(
    torch: Model,
    keras: Model,
    *,
    inputs: Any = None,
    keras_inputs: Any = None,
    hints: Hints = None,
    probe: bool | None = None,
    entry: str = "",
    keras_weights: str | Path | None = None,
) -> Alignment:
    """Match every tensor of a torch model with its counterpart in a Keras model.

    A Keras 2 file that contains an architecture is first loaded as a live model that computes the same as in Keras 2.

    Two live models are probed: both run once in float64 with the same random weights, and a layer is paired with the
    layer that returns the same output for the same input. Neither model changes. A Keras file with an architecture is
    loaded for the probe, if the torch side is a module. If a side is a file of weights, or there are no inputs, the
    pairs follow from names, shapes and call order, and a note in the plan says so.

    Args:
        torch: A torch module, or the path of a checkpoint (.pt, .pth, .ckpt, .safetensors, a folder with one).
        keras: A Keras model, or the path of a file (.keras, .weights.h5, .h5 of Keras 2 or 3), or of an architecture
            without weights (.json).
        inputs: The inputs of the torch module: a tensor or array, a tuple of positional arguments, or a dict of
            keyword arguments. By default they are random arrays of the shapes in the Keras side's input specification.
        keras_inputs: The inputs of the Keras model, if they are not just `inputs` in the Keras memory layout. Without
            `inputs`, the torch module gets the same arrays, with the channels of images as axis 1.
        hints: Known pairs of layers: a dict of paths ({"fc": "dense"}), a list of (regular expression, replacement), or
            a function from the path of a torch layer to that of its Keras layer, or None.
        probe: Whether to probe the models; by default if both are live and there are inputs. If a model raises with
            inputs that you passed, `align` raises. If it raises with random inputs, the plan is made without the probe,
            and a note in the plan says so.
        entry: The name of the state dict in a torch checkpoint that holds several, such as "state_dict_ema".
        keras_weights: The file of weights of an architecture (.json); by default the model has initial weights.

    Returns:
        A plan to print, edit and save. `plan.check()` raises if a tensor has no counterpart.

    Raises:
        InputError: The arguments are not a torch side and a Keras side, the inputs do not fit, or `probe=True` although
            a side is a file or there are no inputs.
        ModelError: A model raised for these inputs; the message names the layer.
        FileError: A file cannot be read.
        AlignmentError: A hint does not fit the models.

    Example:
        >>> plan = k3c.align(module, "model.h5")
        >>> plan.check()
    """
    from keras3conv.workflows.align import align as run

    options: dict[str, Any] = {"hints": hints, "probe": probe, "entry": entry, "keras_weights": keras_weights}
    return run(torch, keras, inputs=inputs, keras_inputs=keras_inputs, **options)


@random_state_kept()
def transfer(  # noqa: PLR0913 - an argument for every option
    source: Model,
    target: Model,
    plan: Alignment,
    *,
    out: str | Path | Sequence[str | Path] = (),
    overwrite: bool = False,
    cast: bool = False,
    accept_difference: bool = False,
    accept_unconfirmed: bool = False,
    memory: Literal["copy", "share"] = "copy",
    entry: str = "",
    max_shard_size: int | str | None = None,
    ray: str | None = None,
    keras_weights: str | Path | None = None,
) -> Report:
    """Transfer the weights of a model to a model or file of the other framework: all of them, or none.

    After a failure or an interrupt the target is unchanged. `verify` compares a file with OUT.manifest.json beside it.

    Args:
        source: The model to read, torch or Keras: a live model or the path of a file.
        target: A live model of the other framework, or the path of a file to write; or an architecture (.json).
        plan: The pairs of tensors, from `align`.
        out: Paths of files to which the target is saved with its new weights.
        overwrite: Whether to replace existing files.
        cast: Whether values may lose precision, in a narrower dtype or in a Keras model that is quantized.
        accept_difference: Whether to transfer although the plan knows that the outputs differ with the same weights.
        accept_unconfirmed: Whether the report counts as passed although no run has confirmed pairs of the plan;
            otherwise its status is "unconfirmed", and it is not `ok`. The weights are transferred in either case.
        memory: "copy": the target gets a copy of the values; a Keras model on the torch backend gets the kernels of its
            convolutions in the memory order that runs fastest. "share": between live models on the torch backend, the
            target uses the memory of the source; the report names the values that are computed, and so copied.
        entry: The state dict in a torch checkpoint that holds several: "state_dict_ema"; by default that of the plan.
        max_shard_size: The size of a file, a number of bytes or "2GB": larger models are divided among several files
            with an index. After a kill, the same call goes on with the finished files. See docs/files.md.
        ray: The address of a Ray cluster that writes the shards, "auto" or "local"; its machines share the folders.
        keras_weights: The file of weights of an architecture (.json); required if it is the source.

    Returns:
        A report of the transfer, with the size, sha256 and md5 of every written file.

    Raises:
        AlignmentError: The plan has problems, or knows of a difference that is not accepted.
        TransferError: The plan was made for other models, or a value does not fit the target's shape or dtype.
        FileError: A file cannot be read, or exists already and `overwrite` is False.
    """
    from keras3conv import formats
    from keras3conv.workflows.sources import ends_of_transfer
    from keras3conv.workflows.transfer import Options
    from keras3conv.workflows.transfer import transfer as run

    size = None if max_shard_size is None else formats.parse_size(max_shard_size)
    allowed: Any = {"overwrite": overwrite, "cast": cast, "accept_unconfirmed": accept_unconfirmed}
    options = Options(**allowed, out=_paths(out), memory=memory, max_shard_size=size, ray=ray)
    source, target, loaded = ends_of_transfer(source, target, options.out, keras_weights)
    plan = plan.accepting_difference() if accept_difference else plan
    return run(source, target, plan, options, entry=entry, loaded=loaded)


def verify(out: str | Path) -> Report:
    """Compare the files that `transfer` or `convert` wrote with the manifest or the `metadata.json` beside them.

    Args:
        out: The path of a file, of the index of shards, or of the manifest; or the folder of a conversion.

    Returns:
        A report. One section compares the digests of the files. With a manifest, another compares every tensor.

    Raises:
        FileError: There is no manifest, or it is damaged.
    """
    from keras3conv.workflows.verify import verify as run

    return run(Path(out))


@random_state_kept()
def validate(  # noqa: PLR0913 - a parameter for every option of a certificate
    torch: Model,
    keras: Model,
    *,
    inputs: Any = None,
    keras_inputs: Any = None,
    plan: Alignment | None = None,
    proofs: Sequence[str] | None = None,
    tolerance: Tolerance | None = None,
    training: bool = False,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    onnx: bool | str | Path = False,
    backends: str | Sequence[str] | None = None,
    expected: Any = None,
    local: bool | Mapping[str, str | Path] = False,
    entry: str = "",
    keras_weights: str | Path | None = None,
    alignment: Alignment | None = None,
) -> Report:
    """Prove that two models compute the same, or report where and why they differ.

    Args:
        torch: A torch module, or the path of a checkpoint. For a checkpoint only the plan can be checked.
        keras: A Keras model, or the path of a file. For a file without an architecture only the plan can be checked.
        inputs: The inputs of the torch module: an array, a tuple, or a dict by argument name; random by default.
        keras_inputs: The inputs of the Keras model, if they are not just `inputs` in the Keras memory layout.
        plan: The pairs of tensors; by default the result of `align`.
        proofs: The names of the proofs to run ("outputs", "float64"); all by default. The plan is always checked.
        tolerance: The allowed difference of the outputs, instead of the measured rounding error of the torch module.
        training: Whether what differs only in training (momentum, dropout rate) fails, too.
        labels: The correct class of every sample, shape (samples,): the report then has the top-1 and top-5 accuracy.
        class_names: The name of each class, in the order of the class indices.
        onnx: Whether to also export both models to ONNX and compare the files in onnxruntime; or a new folder for them.
        backends: Other Keras backends on which the saved model is run, each in a new process: names, or "all".
        expected: Golden outputs for these inputs, in Keras' layout: a .npz or .npy file, or arrays in order or by name.
        local: Whether to prove one pair of layers at a time, to save memory; or files of values: {"torch": path}.
        entry: The name of the state dict in a torch checkpoint that holds several, such as "state_dict_ema".
        keras_weights: The file of weights of an architecture (.json); required for it.
        alignment: Another name of `plan`.

    Returns:
        The certificate, a report: `.ok`, `.raise_if_failed()`, `print(report)`, `.save("report.html")`.

    Raises:
        InputError: The arguments are not a torch side and a Keras side, or the inputs or the labels do not fit.
        ModelError: A model cannot be run.
    """
    from keras3conv.validators.running.options import Options
    from keras3conv.workflows.sources import with_weights
    from keras3conv.workflows.validate import validate as run

    plan = _one_plan(plan, alignment)
    lists = {"proofs": proofs, "class_names": class_names, "backends": backends}
    given: dict[str, Any] = {name: () if value is None else value for name, value in lists.items()}
    given |= {"tolerance": tolerance, "training": training, "labels": labels, "onnx": onnx, "expected": expected}
    files = [Path(local[side]) if isinstance(local, Mapping) and side in local else None for side in ("torch", "keras")]
    options, sides = Options(**given, local=bool(local)), {"inputs": inputs, "keras_inputs": keras_inputs}
    keras, made_of = with_weights(keras, keras_weights)
    return run(torch, keras, **sides, plan=plan, options=options, entry=entry, weight_files=files, code=made_of)


@random_state_kept()
def convert(
    model: Model,
    *,
    weights: str | Path | None = None,
    channels: Literal["first", "last"] | None = None,
    inputs: Any = None,
    dynamic: Mapping[str, Sequence[int]] | None = None,
    validate: bool = True,
    entry: str = "",
) -> "Conversion":
    """Convert a Keras model to a torch module, or a torch module to a Keras model: the same weights, validated.

    The new model is readable and trainable: `source` is its code. The direction follows from the argument.

    Args:
        model: A Keras model, or the path of a file with its architecture (.keras, .h5), or the path of an architecture
            without weights (.json). Or a torch module, or a local folder of transformers (`config.json` and
            safetensors), which becomes a functional model of Keras' own layers.
        weights: A file of weights to load into the model first; required for a .json.
        channels: The layout of images in the inputs and outputs of the new model: "first" as in torch, "last" as in
            Keras. By default the layout of the new model's framework.
        inputs: The inputs of the model: required for a torch module, and for a Keras model that has no input
            specification, or whose computation depends on a dynamic size. They fix every size but the batch.
        dynamic: For a torch module, the dynamic axes besides the batch axis, by the name of the input:
            {"x": (2, 3)} for images of any size.
        validate: Whether to validate the new model; otherwise `report` is None.
        entry: The name of the state dict, if `weights` is a torch checkpoint that holds several: "state_dict_ema".

    Returns:
        The conversion: `.model`, `.source`, `.plan`, `.report`.

    Raises:
        UnsupportedLayerError: Parts of the model have no counterpart; the message names all of them.
        ModelError: The model cannot be loaded or called.
        InputError: The argument is not a model, or the inputs of a torch module are missing.

    Example:
        >>> conversion = k3c.convert("model.keras")
        >>> conversion.report.raise_if_failed()
    """
    from keras3conv.workflows.convert import convert as run

    settings = {"channels": channels, "inputs": inputs, "dynamic": dynamic, "validate": validate}
    return run(model, weights=weights, entry=entry, **settings)


def compare_onnx(
    first: str | Path, second: str | Path, inputs: Any = None, *, tolerance: Tolerance | None = None
) -> Report:
    """Run two ONNX files on the same inputs and compare their outputs.

    Both files are checked before they run, more strictly than by the checker of onnx: a file that refers to files
    outside its folder, or declares missing data, is refused. Each file runs in onnxruntime on the CPU, in a process
    with limits of time and memory.

    Args:
        first: An ONNX file; the difference between its float32 and float64 outputs is the noise floor.
        second: Another ONNX file. Its inputs and outputs are matched with those of the first file by name if the names
            are the same, else by order, or by shape if the order does not fit. Images are converted to its layout.
        inputs: The inputs of the first file: an array, a tuple of arrays, or a dict by name. By default they are
            random arrays with the shapes that the files declare.
        tolerance: The allowed difference instead of the measured noise floor, for example between a file in float16
            and one in float32. The report says that the tolerance was passed.

    Raises:
        FileError: A file is refused; the message names the tensor or node.
        InputError: The inputs do not fit the files, or are not given and cannot be derived from the files.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    from keras3conv.validators.onnx import compare_files as onnx_files

    return onnx_files.compare_files(Path(first), Path(second), inputs, tolerance=tolerance)


def _paths(out: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    return (Path(out),) if isinstance(out, str | Path) else tuple(map(Path, out))


def _one_plan(plan: Alignment | None, alignment: Alignment | None) -> Alignment | None:
    if plan is not None and alignment is not None:
        raise InputError("plan and alignment are two names of one argument, so give only one of them\nFix:  plan=plan")
    return alignment if plan is None else plan
