"""Match the outputs of ONNX files with the outputs of their models, and judge all outputs in Keras' layout."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from keras3conv.frameworks.shared.recording import Recording
from keras3conv.messages import count
from keras3conv.transforms import Array
from keras3conv.validators.onnx.export import Exported
from keras3conv.validators.onnx.opinions import KERAS, KERAS_ONNX, TORCH, TORCH_ONNX, Verdict, compare_opinions
from keras3conv.validators.running.output_pairs import OutputPair, output_pairs, shown_name, torch_outputs
from keras3conv.validators.running.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """The outputs of the ONNX file of one side, or the reason why there are none.

    Attributes:
        name: "ONNX of torch" or "ONNX of Keras".
        exported: The file; None if the export failed.
        outputs: Outputs by name, in the file's order; None if the file was not run.
        failure: The reason why there is no file, or why the file does not run.
    """

    name: str
    exported: Exported | None = None
    outputs: Mapping[str, Array] | None = None
    failure: str = ""


def judge_opinions(subject: Subject, opinions: Iterable[Opinion]) -> list[Verdict]:
    """Compare every output of torch, Keras and their ONNX files pairwise.

    A file with a wrong number of outputs disagrees with all others.
    """
    torch, keras = subject.torch_run, subject.keras_run
    pairs = list(output_pairs(torch, keras))
    truths = torch_outputs(subject.torch_truth, keras)
    values: dict[str, dict[str, Array]] = {}
    for pair in pairs:
        if pair.torch_output.size:
            values[pair.name] = {TORCH: pair.torch_output, KERAS: pair.keras_output}
    verdicts: list[Verdict] = []
    for opinion in opinions:
        if opinion.outputs is None:
            continue
        is_torch = opinion.name == TORCH_ONNX
        model_run = torch if is_torch else keras
        file_run = _with_model_names(opinion, model_run)
        if file_run is None:
            verdicts += _wrong_number_of_outputs(opinion, model_run)
            continue
        for pair in output_pairs(file_run, keras) if is_torch else output_pairs(torch, file_run):
            if pair.name in values:
                values[pair.name][opinion.name] = pair.torch_output if is_torch else pair.keras_output
    for pair in pairs:
        verdicts += _judge_output(subject, pair, values.get(pair.name, {}), truths)
    return verdicts


def _judge_output(
    subject: Subject, pair: OutputPair, values: Mapping[str, Array], truths: Mapping[str, Array]
) -> list[Verdict]:
    """Compare one output of torch, Keras and their ONNX files; return a verdict for every two of them.

    If the shapes in torch and Keras differ, each side is compared with its own ONNX file only.

    Args:
        subject: The two models.
        pair: The output as torch and Keras compute it.
        values: The values of the output, by "torch", "Keras", "ONNX of torch" and "ONNX of Keras".
        truths: Torch's outputs in float64, by name.
    """
    tolerance, name = subject.options.tolerance, shown_name(pair, subject.keras, subject.keras_run)
    if not pair.mismatch:
        return compare_opinions(name, values, pair.torch_output, truths[pair.name], tolerance)
    torch_values = {opinion: values[opinion] for opinion in (TORCH, TORCH_ONNX) if opinion in values}
    keras_values = {opinion: values[opinion] for opinion in (KERAS, KERAS_ONNX) if opinion in values}
    verdicts = [
        Verdict(output=name, first=first, second=second, mismatch=pair.mismatch)
        for first, second in product(torch_values or [TORCH], keras_values or [KERAS])
    ]
    for side_values in (torch_values, keras_values):
        if len(side_values) > 1:
            verdicts += compare_opinions(name, side_values, pair.torch_output, truths[pair.name], tolerance)
    return verdicts


def _wrong_number_of_outputs(opinion: Opinion, model_run: Recording) -> list[Verdict]:
    assert opinion.outputs is not None
    others = [TORCH, KERAS, *({TORCH_ONNX, KERAS_ONNX} - {opinion.name})]
    names = ", ".join(opinion.outputs)
    returned = count(len(opinion.outputs), "array")
    mismatch = f"the file returns {returned} ({names}), but the model returns {len(model_run.outputs)}"
    return [Verdict(output="outputs", first=other, second=opinion.name, mismatch=mismatch) for other in others]


def _with_model_names(opinion: Opinion, model_run: Recording) -> Recording | None:
    """Return the outputs of a file by the model's output names; None if the numbers of outputs differ.

    Outputs are matched by order, not by name: the exporter generates the names in the file from a node or a counter,
    and such a name may equal the model's name of a different output.
    """
    assert opinion.outputs is not None
    assert opinion.exported is not None
    if len(opinion.outputs) != len(model_run.outputs):
        return None
    names = list(model_run.outputs)
    if opinion.exported.sorted_keys:
        names.sort(key=_nested_key)
    by_name = dict(zip(names, opinion.outputs.values(), strict=True))
    return Recording(outputs={name: by_name[name] for name in model_run.outputs})


def _nested_key(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key for names like "logits.10.mask": list indices sort as numbers, dict keys as strings."""
    return [(False, int(part), "") if part.isdigit() else (True, 0, part) for part in name.split(".")]
