"""What the ONNX file of a side returned, matched with what the frameworks returned, and judged in Keras' layout."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from keras3conv.frameworks.shared.recording import Recording
from keras3conv.transforms import Array
from keras3conv.validators.onnx.export import Exported
from keras3conv.validators.onnx.opinions import KERAS, KERAS_ONNX, TORCH, TORCH_ONNX, Verdict, verdicts
from keras3conv.validators.running.ends import OutputPair, output_pairs
from keras3conv.validators.running.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What the ONNX file of one side returned, or why it returned nothing.

    Attributes:
        name: Whose file it is: `TORCH_ONNX` or `KERAS_ONNX`.
        exported: The file.
        outputs: What it returned, in its order; None where it was not run.
        failure: Why there is no file, or why it was not run.
    """

    name: str
    exported: Exported | None = None
    outputs: Mapping[str, Array] | None = None
    failure: str = ""


def judged(subject: Subject, opinions: Iterable[Opinion]) -> list[Verdict]:
    """Every pair of opinions on every output; a file that returns more or fewer arrays disagrees with everybody."""
    torch, keras = subject.torch_run, subject.keras_run
    pairs = list(output_pairs(torch, keras))
    truths = {pair.name: pair.torch for pair in output_pairs(subject.torch_truth, keras)}
    heard: dict[str, dict[str, Array]] = {
        pair.name: {TORCH: pair.torch, KERAS: pair.keras} for pair in pairs if pair.torch.size
    }
    found: list[Verdict] = []
    for opinion in opinions:
        run = torch if opinion.name == TORCH_ONNX else keras
        named = _named(opinion, run)
        if opinion.outputs is not None and named is None:
            found += _of_another_number(opinion, run)
        elif named is not None:
            _hear(heard, opinion.name, output_pairs(named, keras) if run is torch else output_pairs(torch, named))
    for pair in pairs:
        found += _of_output(subject, pair, heard.get(pair.name, {}), truths)
    return found


def _hear(heard: dict[str, dict[str, Array]], name: str, pairs: Iterable[OutputPair]) -> None:
    for pair in pairs:
        if pair.name in heard:
            heard[pair.name][name] = pair.torch if name == TORCH_ONNX else pair.keras


def _of_output(
    subject: Subject, pair: OutputPair, heard: Mapping[str, Array], truths: Mapping[str, Array]
) -> list[Verdict]:
    """The verdicts on one output; where torch and Keras return other shapes, each is compared with its own file."""
    tolerance = subject.options.tolerance
    if not pair.odd:
        return verdicts(pair.name, heard, pair.torch, truths[pair.name], tolerance)
    sides = [[name for name in side if name in heard] for side in ((TORCH, TORCH_ONNX), (KERAS, KERAS_ONNX))]
    found = [
        Verdict(output=pair.name, first=first, second=second, odd=pair.odd)
        for first in sides[0] or [TORCH]
        for second in sides[1] or [KERAS]
    ]
    for side in sides:
        given = {name: heard[name] for name in side}
        found += verdicts(pair.name, given, pair.torch, truths[pair.name], tolerance) if len(given) > 1 else []
    return found


def _of_another_number(opinion: Opinion, run: Recording) -> list[Verdict]:
    assert opinion.outputs is not None
    others = [TORCH, KERAS, *({TORCH_ONNX, KERAS_ONNX} - {opinion.name})]
    odd = f"the file returns {len(opinion.outputs)} arrays ({', '.join(opinion.outputs)}), the model {len(run.outputs)}"
    return [Verdict(output="outputs", first=other, second=opinion.name, odd=odd) for other in others]


def _named(opinion: Opinion, run: Recording) -> Recording | None:
    """The outputs of a file under the names that the framework gives them; None where they are more or fewer.

    They are matched by their order. The names in a file are an exporter's: a node's, or a running number, and may be
    the name that the model gives another output.
    """
    if opinion.outputs is None or len(opinion.outputs) != len(run.outputs):
        return None
    assert opinion.exported is not None
    names = sorted(run.outputs, key=_by_keys) if opinion.exported.sorted_keys else list(run.outputs)
    by_name = dict(zip(names, opinion.outputs.values(), strict=True))
    return replace(Recording(), outputs={name: by_name[name] for name in run.outputs})


def _by_keys(name: str) -> list[tuple[bool, int, str]]:
    """The place of "logits.10.mask" among its kind: lists by their indexes, dicts by their keys."""
    return [
        (not part.isdigit(), int(part) if part.isdigit() else 0, "" if part.isdigit() else part)
        for part in name.split(".")
    ]
