"""Find the plan that `convert` saved beside a model, in `metadata.json`, and check that it is for these two models.

So the pairs of a converted model need not be searched again. The plan is used if both models have exactly the tensors
that it names, with the same shapes. The values may differ, as after further training.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import FileError, message_of
from keras3conv.formats.safe.source import Source
from keras3conv.frameworks.sides import Sides
from keras3conv.messages import count
from keras3conv.model.views import ModelView
from keras3conv.model.wrappers import named_as
from keras3conv.workflows.files import MOST_BYTES, read_plan
from keras3conv.workflows.metadata import NAME
from keras3conv.workflows.named import with_names_of

_SHOWN = 3


def recorded_plan(
    sides: Sides, opened: Sides, more_files: Sequence[Path | None] = ()
) -> tuple[Alignment | None, tuple[str, ...]]:
    """Return the plan that `convert` saved beside one of the models, with notes on its file or why it is not used.

    Args:
        sides: The two models as the user gave them: files or live models.
        opened: The same models; a file of Keras 2 is loaded.
        more_files: Further files that belong to the models: the weights of live models, or the code that made them.

    Returns:
        The plan, or None if there is none or if it is for other models; and the notes, which the plan contains, too.
    """
    files = [Path(side.source) for side in sides.files()] + [path for path in more_files if path is not None]
    notes: list[str] = []
    for record in dict.fromkeys(_records(files)):
        try:
            plan = _plan_in(record)
        except FileError as error:
            notes.append(f"the plan in {record} is not used: {' '.join(message_of(error).split())}")
            continue
        if plan is None:
            continue
        torch, keras = opened.views(planned=plan.torch)
        torch, plan = named_as(torch, plan.torch), with_names_of(plan, opened.keras)
        reasons = [*_differences(torch, plan), *_differences(keras, plan)]
        if not reasons:
            note = f"the plan is the one that convert wrote to {record}"
            return replace(_for_models(plan, torch, keras), notes=(note, *plan.notes)), (note,)
        notes.append(f"the plan in {record} is for other models: {'; '.join(reasons)}")
    return None, tuple(notes)


def _records(files: Sequence[Path]) -> Iterator[Path]:
    """Yield the `metadata.json` beside each of the files that has one."""
    for file in files:
        record = file.parent / NAME
        if file.name != NAME and record.is_file():
            yield record


def _plan_in(record: Path) -> Alignment | None:
    """Return the plan in a `metadata.json`; None if another program wrote the file.

    Raises:
        FileError: The file cannot be read, or the plan in it is damaged.
    """
    source = Source.pin(record)
    if source.size > MOST_BYTES:
        return None
    with source.open() as file:
        content = bytes(source.read(file, 0, source.size))
    try:
        data: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("alignment"), dict) or "sha256" not in data:
        return None
    return read_plan(record)


def _for_models(plan: Alignment, torch: ModelView, keras: ModelView) -> Alignment:
    """Return a plan with the views of these models, which may lack only tensors that the plan ignores."""
    known = {(view.side, tensor.path) for view in (torch, keras) for tensor in view.tensors()}
    ignored = tuple(entry for entry in plan.ignored if (entry.side, entry.path) in known)
    return replace(plan, torch=torch.outline(), keras=keras.outline(), ignored=ignored)


def _differences(view: ModelView, plan: Alignment) -> Iterator[str]:
    """Yield phrases on how the tensors of a model differ from those in a plan; nothing if the plan is for this model.

    A file may lack tensors that the plan does not map: constant buffers, and further names of tied tensors.
    """
    planned = plan.torch if view.side == "torch" else plan.keras
    own = {tensor.path: tensor.shape for tensor in view.tensors() if not tensor.is_seed}
    wanted = {tensor.path: tensor.shape for tensor in planned.tensors() if not tensor.is_seed}
    mapped = {path for mapping in plan.mappings for path in mapping.names(view.side)}
    lacks = [path for path in wanted if path not in own and path in mapped]
    more = [path for path in own if path not in wanted]
    shapes = [f"{path} is {own[path]}, not {wanted[path]}" for path in own if own[path] != wanted.get(path, own[path])]
    for found, verb in ((lacks, "lacks"), (more, "also has")):
        if found:
            rest = f" and {count(len(found) - _SHOWN, 'other')}" if len(found) > _SHOWN else ""
            yield f"{view.title} {verb} {', '.join(found[:_SHOWN])}{rest}"
    yield from shapes[:_SHOWN]
