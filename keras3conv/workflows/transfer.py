"""`transfer`: which side is read, which is written, and the report about it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.alignment.staging import Staging, stage
from keras3conv.errors import InputError, Problem, TransferError
from keras3conv.frameworks.sides import side_and_form
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView, Reader, TensorRef
from keras3conv.report.report import Report, current_environment
from keras3conv.report.values import Section, Table, WrittenFile
from keras3conv.transforms import Array
from keras3conv.workflows.sides import Model, opened_or_file, view


def transfer(
    source: Model, target: Model, plan: Alignment, *, out: Sequence[Path], overwrite: bool, cast: bool
) -> Report:
    """See `keras3conv.transfer`."""
    (from_side, _), (to_side, to_form) = side_and_form(source, "source"), side_and_form(target, "target")
    if from_side == to_side:
        raise InputError(f"source and target are both {from_side}: a transfer goes from one framework to the other")
    notes: tuple[str, ...] = ()
    if from_side == "keras":
        source, notes = opened_or_file(source)
    source_view = view(source)
    if to_form == "file":
        staging, files = _into_files(source_view, Path(target), plan, out, overwrite=overwrite, cast=cast)
    else:
        staging, files = _into_live(source_view, target, plan, out, overwrite=overwrite, cast=cast)
    return _report(staging, files, notes)


def _into_live(
    source: ModelView, target: Any, plan: Alignment, out: Sequence[Path], *, overwrite: bool, cast: bool
) -> tuple[Staging, tuple[WrittenFile, ...]]:
    target_view = view(target)
    staging = stage(plan, source, target_view, cast=cast)
    for path in out:
        if formats.side_of(path) != target_view.side:
            raise InputError(f"{path} is no file for a {target_view.side} model")
    values = dict(staging.values())
    with _undone_on_failure(target, target_view, values if out else {}):
        _write_live(target, target_view, values)
        files = tuple(_save_live(target, target_view, path, overwrite=overwrite) for path in out)
    return staging, files


@contextmanager
def _undone_on_failure(target: Any, target_view: ModelView, values: dict[str, Array]) -> Iterator[None]:
    """Puts the old weights back if a file could not be written after the live model was."""
    if target_view.side == "torch":
        from keras3conv.frameworks.torch import module as torch_side

        with torch_side.undone_on_failure(target, values):
            yield
        return
    before = {path: np.array(target_view.read(path)) for path in values}
    try:
        yield
    except BaseException:  # an interrupt too
        _write_live(target, target_view, before)
        raise


def _write_live(target: Any, target_view: ModelView, values: dict[str, Array]) -> None:
    if target_view.side == "torch":
        from keras3conv.frameworks.torch import module as torch_side

        torch_side.write(target, values)
    else:
        from keras3conv.frameworks.keras import model as keras_side

        keras_side.write(target, values)


def _save_live(target: Any, target_view: ModelView, path: Path, *, overwrite: bool) -> WrittenFile:
    if target_view.side == "torch":
        from keras3conv.frameworks.torch import module as torch_side

        tensors, read = torch_side.stored(target)
        return formats.write(path, tensors, read, overwrite=overwrite)
    from keras3conv.frameworks.keras import files as keras_files

    return keras_files.save(target, path, overwrite=overwrite)


def _into_files(
    source: ModelView, target: Path, plan: Alignment, out: Sequence[Path], *, overwrite: bool, cast: bool
) -> tuple[Staging, tuple[WrittenFile, ...]]:
    """Writes files without building the target model; a target that exists gives the architecture."""
    exists = target.exists()
    planned = plan.torch if source.side == "keras" else plan.keras
    target_view = formats.read(target) if exists else planned
    staging = stage(plan, source, target_view, cast=cast)
    _require_no_computed(staging)
    tensors, read = _inventory(staging, complete=exists), _reader(staging, complete=exists)
    # What a Keras file holds besides weights (the architecture, an optimizer's state) comes from the file itself.
    template = target if exists and target_view.side == "keras" else None
    destinations = out or (target,)
    files = [formats.write(path, tensors, read, template=template, overwrite=overwrite) for path in destinations]
    return staging, tuple(files)


def _require_no_computed(staging: Staging) -> None:
    """Raises `TransferError` where the file would hold what a tensor is computed of: only its module can find that."""
    fact = "is computed of other tensors, which the file holds in its place"
    fixes = ("transfer(source, target_model, plan, out=path)",)
    computed = [tensor.path for tensor in staging.target.tensors() if tensor.is_computed]
    if computed:
        problems = [Problem.on(staging.target.side, path, fact, fixes) for path in computed]
        raise TransferError(lay_out(f"nothing was written from {staging.source.title}", problems))


def _inventory(staging: Staging, *, complete: bool) -> tuple[TensorRef, ...]:
    """The tensors of the file: those that the plan places, and counters that every state dict has.

    Args:
        staging: What will be written.
        complete: Whether the target exists, so that a tensor that is left out keeps the value that it has there.

    Raises:
        TransferError: A tensor is left out on purpose, and there is no target to take its value from.
    """
    tensors, missing = [], []
    for tensor in staging.target.tensors():
        if tensor.is_seed:
            continue
        if complete or staging.has(tensor) or _is_counter(tensor):
            tensors.append(tensor)
        else:
            missing.append(tensor)
    if missing:
        fact = "is left out by the plan, so the file would lack it"
        fixes = ("transfer(source, target_model, plan, out=path)",)
        problems = [Problem.on(staging.target.side, tensor.path, fact, fixes) for tensor in missing]
        raise TransferError(lay_out(f"nothing was written from {staging.source.title}", problems))
    return tuple(tensors)


def _is_counter(tensor: TensorRef) -> bool:
    """Whether this is a number that only counts (`num_batches_tracked`): it starts from 0 in a new file."""
    return tensor.shape == () and tensor.dtype.startswith("int")


def _reader(staging: Staging, *, complete: bool) -> Reader:
    tensors = {tensor.path: tensor for tensor in staging.target.tensors()}

    def read(path: str) -> Array:
        tensor = tensors[path]
        if staging.has(tensor):
            return staging.read(path)
        return staging.target.read(path) if complete else np.zeros((), dtype=tensor.dtype)

    return read


def _report(staging: Staging, files: tuple[WrittenFile, ...], origin: tuple[str, ...]) -> Report:
    plan, target = staging.plan, staging.target
    lossy = [mapping for mapping in plan.mappings if not mapping.transform.lossless]
    numbers = sum(int(np.prod(tensor.shape)) for tensor in target.tensors() if staging.has(tensor))
    rows = tuple((pair.torch, pair.keras, len(pair.weights), pair.decided_by) for pair in plan.pairs)
    unconfirmed = tuple(pair.torch for pair in plan.pairs if pair.unconfirmed)
    section = Section(
        name="transfer",
        status="passed",
        claim="Every tensor of the plan was read, transformed, checked and written; all or nothing.",
        summary=f"{len(staging.paths)} tensors, {numbers:,} numbers: {staging.source.title} -> {target.title}",
        facts={"declared loss": ", ".join(mapping.torch[0] for mapping in lossy)} if lossy else {},
        tables=(Table(title="pairs", columns=("torch", "keras", "tensors", "decided by"), rows=rows),),
    )
    notes = (f"not confirmed by a run: {', '.join(unconfirmed)}; validate(...) proves it",) if unconfirmed else ()
    title = f"Transfer: {staging.source.title} -> {target.title}"
    return Report(
        title=title, sections=(section,), files=files, environment=current_environment(), notes=(*origin, *notes)
    )
