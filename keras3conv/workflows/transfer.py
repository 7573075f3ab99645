"""Implement `keras3conv.transfer`: write the weights of one side to a live model or a file of the other side."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.alignment.staging import Staging, stage
from keras3conv.alignment.text import unconfirmed_reason
from keras3conv.errors import InputError, Problem, TransferError
from keras3conv.frameworks.adapter import Adapter, KerasFile, LiveModel, Model, ModelFile, resolve
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView, Reader, TensorRef
from keras3conv.report.report import Report, current_environment
from keras3conv.report.stages import Stages
from keras3conv.report.values import Section, Table, WrittenFile
from keras3conv.transforms import Array

Memory = Literal["copy", "share"]
"""How a live target gets its values: as its own copy, or as the memory of the source."""


def transfer(  # noqa: PLR0913 - an argument for every option
    source: Model,
    target: Model,
    plan: Alignment,
    *,
    out: Sequence[Path],
    overwrite: bool,
    cast: bool,
    accept_unconfirmed: bool = False,
    memory: Memory = "copy",
    entry: str = "",
) -> Report:
    """Transfer the weights of the source to the target; see `keras3conv.transfer`."""
    if memory not in get_args(Memory):
        raise InputError(f'memory is {memory!r}: it must be "copy" or "share"')
    read, written = resolve(source, "source", entry=entry), resolve(target, "target")
    if read.side == written.side:
        raise InputError(f"source and target are both {read.side}: a transfer goes from one framework to the other")
    notes: tuple[str, ...] = ()
    stages = Stages()
    if memory == "share":
        shared, facts = _shared(read, written, plan, out, cast=cast, stages=stages)
        report = _report(shared, (), (), facts, accept_unconfirmed=accept_unconfirmed)
        return replace(report, seconds=stages.seconds)
    if isinstance(read, KerasFile):
        read, notes = (read, read.notes()) if _has_the_tensors(read.view(), plan) else read.opened()
    into = partial(_into_files if isinstance(written, ModelFile) else _into_live, stages=stages)
    done = into(read.view(described=False), written, plan, out, overwrite=overwrite, cast=cast)
    report = _report(*done, notes, accept_unconfirmed=accept_unconfirmed)
    return replace(report, seconds=stages.seconds)


def _has_the_tensors(keras: ModelView, plan: Alignment) -> bool:
    """Return whether a Keras file has the tensors of the plan under their names; then Keras need not open it."""
    shapes = {tensor.path: tensor.shape for tensor in keras.tensors()}
    return all(shapes.get(tensor.path) == tensor.shape for tensor in plan.keras.tensors() if not tensor.is_seed)


def _into_live(
    source: ModelView,
    target: LiveModel,
    plan: Alignment,
    out: Sequence[Path],
    *,
    overwrite: bool,
    cast: bool,
    stages: Stages,
) -> tuple[Staging, tuple[WrittenFile, ...]]:
    """Write the weights to a live model and save the model; if a file cannot be written, restore the old weights."""
    with stages.stage("check"):
        staging = stage(plan, source, target.view(described=False), cast=cast)
    for path in out:
        if formats.side_of(path) != target.side:
            raise InputError(f"a {target.side} model cannot be saved to {path}: the suffix is that of another format")
    with stages.stage("check"):
        staging.require_values()
    with target.restored_on_failure(staging.paths) if out else nullcontext():
        with stages.stage("write"):
            target.write(staging.values())
        with stages.stage("save"):
            files = tuple(target.save(path, overwrite=overwrite) for path in out)
    return staging, files


def _shared(
    source: Adapter, target: Adapter, plan: Alignment, out: Sequence[Path], *, cast: bool, stages: Stages
) -> tuple[Staging, dict[str, str]]:
    """Let a live model use the memory of another; values that are no view of one source tensor are copied."""
    if isinstance(source, ModelFile) or isinstance(target, ModelFile):
        raise InputError('memory="share" needs two live models\nFix:  transfer(..., memory="copy")')
    if out:
        raise InputError('memory="share" writes no files: save the model after the transfer\nFix:  out=()')
    from keras3conv.frameworks.torch.memory import share

    tensors = source.torch_tensors(), target.torch_tensors()
    with stages.stage("check"):
        staging = stage(plan, source.view(described=False), target.view(described=False), cast=cast)
        _require_no_computed(staging)
        staging.require_values()
    with stages.stage("share"):
        shared, copied = share(*tensors, staging.values_and_sources())
    facts = {"shared memory": f"{len(shared)} of {len(staging.paths)} tensors: a change of one model changes both"}
    return staging, facts | ({"copied": ", ".join(copied)} if copied else {})


def _into_files(
    source: ModelView,
    target: ModelFile,
    plan: Alignment,
    out: Sequence[Path],
    *,
    overwrite: bool,
    cast: bool,
    stages: Stages,
) -> tuple[Staging, tuple[WrittenFile, ...]]:
    """Write files without building the target model.

    If the target file exists, the written files have its tensors. Otherwise they have the tensors of the plan.
    """
    exists = os.path.lexists(target.source)
    planned = plan.keras if target.side == "keras" else plan.torch
    with stages.stage("check"):
        staging = stage(plan, source, target.view() if exists else planned, cast=cast)
        _require_no_computed(staging)
    tensors, read = _inventory(staging, complete=exists), _reader(staging, complete=exists)
    destinations = out or (target.source,)
    with stages.stage("write"):
        files = tuple(target.write(path, tensors, read, overwrite=overwrite) for path in destinations)
    return staging, files


def _require_no_computed(staging: Staging) -> None:
    """Raise `TransferError` if a target tensor is computed from other tensors.

    A file contains those other tensors instead (as for weight norm), and only the live module can compute them.
    """
    fact = "is computed from other tensors, which the file contains instead: only a live model can be the target"
    fixes = ("transfer(source, target_model, plan, out=path)",)
    computed = [tensor.path for tensor in staging.target.tensors() if tensor.is_computed]
    if computed:
        problems = [Problem.on(staging.target.side, path, fact, fixes) for path in computed]
        raise TransferError(lay_out(f"nothing was written from {staging.source.title}", problems))


def _inventory(staging: Staging, *, complete: bool) -> tuple[TensorRef, ...]:
    """Return the tensors to write: the mapped tensors, counters, and other tensors with a value in an existing target.

    Args:
        staging: The values to write.
        complete: Whether the target file exists: a tensor that the plan does not map then keeps its value.

    Raises:
        TransferError: The plan ignores a tensor, and there is no target file with its value.
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
        fact = "is ignored by the plan, so the new file would have no value for it"
        fixes = ("transfer(source, target_model, plan, out=path)",)
        problems = [Problem.on(staging.target.side, tensor.path, fact, fixes) for tensor in missing]
        raise TransferError(lay_out(f"nothing was written from {staging.source.title}", problems))
    return tuple(tensors)


def _is_counter(tensor: TensorRef) -> bool:
    """Return True if a tensor is an integer scalar such as `num_batches_tracked`, which is 0 in a new file."""
    return tensor.shape == () and tensor.dtype.startswith("int")


def _reader(staging: Staging, *, complete: bool) -> Reader:
    tensors = {tensor.path: tensor for tensor in staging.target.tensors()}

    def read(path: str) -> Array:
        tensor = tensors[path]
        if staging.has(tensor):
            return staging.read(path)
        return staging.target.read(path) if complete else np.zeros((), dtype=tensor.dtype)

    return read


def _report(
    staging: Staging,
    files: tuple[WrittenFile, ...],
    origin: tuple[str, ...],
    facts: Mapping[str, str] | None = None,
    *,
    accept_unconfirmed: bool,
) -> Report:
    plan, target = staging.plan, staging.target
    lossy = [mapping for mapping in plan.mappings if not mapping.transform.lossless]
    numbers = sum(int(np.prod(tensor.shape)) for tensor in target.tensors() if staging.has(tensor))
    rows = tuple((pair.torch, pair.keras, len(pair.weights), pair.decided_by) for pair in plan.pairs)
    unconfirmed = () if accept_unconfirmed else plan.unconfirmed
    section = Section(
        name="transfer",
        status="unconfirmed" if unconfirmed else "passed",
        reason=unconfirmed_reason(unconfirmed),
        claim="Every tensor of the plan was read, transformed, checked and written; all or nothing.",
        summary=f"{len(staging.paths)} tensors, {numbers:,} numbers: {staging.source.title} -> {target.title}",
        facts={**(facts or {}), **({"declared loss": ", ".join(loss.torch[0] for loss in lossy)} if lossy else {})},
        tables=(Table(title="pairs", columns=("torch", "keras", "tensors", "decided by"), rows=rows),),
    )
    title = f"Transfer: {staging.source.title} -> {target.title}"
    return Report(
        title=title,
        sections=(section,),
        files=files,
        environment=current_environment(),
        notes=(*origin, *staging.notes()),
    )
