"""The public functions; each side is a live model or the path of a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from keras3conv.alignment.plan import Alignment
from keras3conv.frameworks.adapter import Model
from keras3conv.frameworks.random_state import random_state_kept
from keras3conv.numerics.difference import Tolerance
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
) -> Alignment:
    """Finds which tensor of one model belongs where in the other.

    Two live models decide it themselves: both are run once in float64 under the same random weights, and a layer is
    paired with the one that computes the same of the same input. Afterwards both are as they were. Where a side is a
    file, or there are no inputs, names, shapes and the order of the calls decide, and the plan says so.

    Args:
        torch: A torch module, or the path of a checkpoint (.pt, .pth, .safetensors).
        keras: A Keras model, or the path of a file (.keras, .weights.h5, .h5 of Keras 2 or 3).
        inputs: What the torch module is called with: a tensor or array, a tuple of positional arguments, or a dict of
            keywords. Without it random inputs are made from the Keras side's input specification.
        keras_inputs: What the Keras model is called with, where that cannot be derived from `inputs` by layout.
        hints: Layers that you know to belong together: a dict of paths, a list of (regular expression, replacement),
            or a callable.
        probe: Whether the models are run to decide; None for whenever both are live and there are inputs. A model that
            raises then is an error where you gave the inputs; with inputs that were made up, the plan is made without
            a run, and says so. With False it is never an error.

    Returns:
        A plan; print it, edit it, save it. `plan.check()` raises if a tensor has no place.

    Raises:
        InputError: The arguments are not a torch side and a Keras side, the inputs do not fit, or `probe=True` and a
            side is a file or there are no inputs.
        ModelError: A model cannot be run with these inputs; the message names the layer.
        FileError: A file cannot be read.
        AlignmentError: A hint does not fit.

    Example:
        >>> plan = k3c.align(module, "model.h5")
        >>> plan.check()
    """
    from keras3conv.workflows.align import align as run

    return run(torch, keras, inputs=inputs, keras_inputs=keras_inputs, hints=hints, probe=probe)


@random_state_kept()
def transfer(
    source: Model,
    target: Model,
    plan: Alignment,
    *,
    out: str | Path | Sequence[str | Path] = (),
    overwrite: bool = False,
    cast: bool = False,
) -> Report:
    """Moves the weights of one model into another, or into a file. All or nothing.

    The direction follows from the arguments. After a failure, or an interrupt, the target is as it was.

    Args:
        source: What the weights are read from: a live model or a file of either side.
        target: What they are written to: a live model of the other side, or a path to write.
        plan: Which tensor belongs where, from `align`.
        out: Files to write as well: the target with its new weights.
        overwrite: Whether files that exist are replaced.
        cast: Whether values may lose precision where the target's dtype is narrower.

    Returns:
        What was moved; every written file with its size, sha256 and md5.

    Raises:
        AlignmentError: The plan has problems.
        TransferError: The plan is for other models, or a value does not fit.
        FileError: A file cannot be read, or exists already.
    """
    from keras3conv.workflows.transfer import transfer as run

    return run(source, target, plan, out=_paths(out), overwrite=overwrite, cast=cast)


@random_state_kept()
def validate(  # noqa: PLR0913 - a certificate may be asked for much
    torch: Model,
    keras: Model,
    *,
    inputs: Any = None,
    keras_inputs: Any = None,
    alignment: Alignment | None = None,
    proofs: Sequence[str] | None = None,
    tolerance: Tolerance | None = None,
    training: bool = False,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    onnx: bool = False,
    backends: str | Sequence[str] | None = None,
) -> Report:
    """Proves that two models are the same, or says where and why they are not.

    Args:
        torch: A torch module; or a file, of which only the weights can be judged.
        keras: A Keras model, or a file that holds one; of a file of weights only the weights can be judged.
        inputs: What the torch module is called with; see `align`.
        keras_inputs: What the Keras model is called with; see `align`.
        alignment: The plan, if there is one already.
        proofs: The proofs that are wanted, by name ("outputs", "float64"); all without it. The plan is judged always.
        tolerance: What the deployed models may differ by, in the place of the noise floor that is measured; the report
            says that it was yours.
        training: Whether the models are to be trained on: what counts in training only (a momentum, a rate of dropout,
            a frozen layer) then is a failure, too.
        labels: The right class of every sample of the inputs, shape (samples,): adds top-1, top-5 and agreement.
        class_names: The names of the classes, by their numbers.
        onnx: Whether both sides are also exported to ONNX and compared in onnxruntime.
        backends: Keras backends to run the saved model on as well, in a fresh process each: names, or "all".

    Returns:
        A certificate: `report.ok`, `report.raise_if_failed()`, `print(report)`, `report.save("report.html")`.

    Raises:
        InputError: The arguments are not a torch side and a Keras side, the inputs or the labels do not fit.
        ModelError: A model cannot be run.
    """
    from keras3conv.validators.running.options import Options
    from keras3conv.workflows.validate import validate as run

    options = Options(
        proofs=() if proofs is None else proofs,
        tolerance=tolerance,
        training=training,
        labels=labels,
        class_names=() if class_names is None else class_names,
        onnx=onnx,
        backends=() if backends is None else backends,
    )
    return run(torch, keras, inputs=inputs, keras_inputs=keras_inputs, plan=alignment, options=options)


@random_state_kept()
def convert(
    model: Model,
    *,
    weights: str | Path | None = None,
    channels: Literal["first", "last"] | None = None,
    inputs: Any = None,
    validate: bool = True,
) -> "Conversion":
    """Makes a torch module of a Keras model, or a Keras model of a torch module, with the same weights, and proves it.

    The new model is readable and trainable: `source` is its code. The direction follows from the argument.

    Args:
        model: A Keras model, or the path of a file that holds one with its architecture (.keras, .h5), or the path of
            an architecture alone (.json). Or a torch module: it becomes a functional Keras model of Keras' own layers
            and operations.
        weights: A file of weights that is loaded into the model first; needed with a .json.
        channels: Where the new model takes and returns the channels of images: "first" is second, as in torch; "last"
            is the convention of Keras. By default the convention of the new model's framework.
        inputs: What the model is called with. A torch module needs it: it is called once, in evaluation mode. A Keras
            model needs it where it does not say so itself, and where its mathematics depends on a size that it leaves
            open. It fixes every size but the batch.
        validate: Whether the certificate is made; without it `report` is None.

    Returns:
        The conversion: `.model`, `.source`, `.alignment`, `.report`.

    Raises:
        UnsupportedLayerError: Something in the model has no counterpart; all of it is named at once.
        ModelError: The model cannot be loaded or called.
        InputError: The argument is no model, or the inputs of a torch module are missing.

    Example:
        >>> conversion = k3c.convert("model.keras")
        >>> conversion.report.raise_if_failed()
    """
    from keras3conv.workflows.convert import convert as run

    return run(model, weights=weights, channels=channels, inputs=inputs, validate=validate)


def compare_onnx(
    first: str | Path, second: str | Path, inputs: Any = None, *, tolerance: Tolerance | None = None
) -> Report:
    """Runs two ONNX files, whoever made them, on the same inputs, and compares what they return.

    Both are looked at before anything runs them, more strictly than by onnx's own checker: what would read beside its
    folder, or declares what is not there, is refused. They run in onnxruntime, on the CPU, in a process each that has
    limits of time and memory.

    Args:
        first: An ONNX file; its own error against a float64 run is the noise that both are judged by.
        second: Another one. Its inputs and outputs are matched with the first's by name where the names are the same,
            by order elsewhere, or by shape where the order does not fit; images are moved into its layout.
        inputs: What the first is called with: an array, a tuple of arrays, or a dict by name. Without it random inputs
            are made from what the files say of themselves.
        tolerance: What the two may differ by, in the place of the noise floor that is measured: for a file in float16
            beside one in float32. The report says that it was yours.

    Raises:
        FileError: A file is refused; the tensor or node is named.
        InputError: The inputs do not fit, or cannot be made.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    from keras3conv.validators.onnx import compare_files as onnx_files

    return onnx_files.compare_files(Path(first), Path(second), inputs, tolerance=tolerance)


def _paths(out: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    return (Path(out),) if isinstance(out, str | Path) else tuple(map(Path, out))
