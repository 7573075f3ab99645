"""Implement `keras3conv.transfer`: write the weights of one side to a live model or a file of the other side."""

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from keras3conv import formats
from keras3conv.alignment.pair import Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.alignment.staging import Staging, stage
from keras3conv.alignment.text import accepted_difference, declared_loss, pairs_table, unconfirmed_reason
from keras3conv.errors import FileError, InputError
from keras3conv.frameworks.adapter import Adapter, KerasFile, LiveModel, Model, ModelFile
from keras3conv.frameworks.shared.ports import remember_port
from keras3conv.frameworks.sides import resolve
from keras3conv.messages import count, with_article
from keras3conv.model.views import ModelView
from keras3conv.report.report import Report, current_environment
from keras3conv.report.stages import Stages
from keras3conv.report.values import NOT_CONFIRMED, Section
from keras3conv.steps import report_fraction
from keras3conv.workflows.clusters import shards_on_ray
from keras3conv.workflows.file_tensors import inventory, reader, require_no_computed
from keras3conv.workflows.manifest import Record
from keras3conv.workflows.named import with_names_of
from keras3conv.workflows.quantizing import unquantized
from keras3conv.workflows.sources import other_state_dict
from keras3conv.writing.digests import ReadFile, WrittenFile

Memory = Literal["copy", "share"]
"""The memory of a live target's new values: a copy, or the memory of the source."""


def _report_bytes(_: str, done: int, total: int) -> None:
    report_fraction("write", done, total)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a transfer.

    Attributes:
        out: The paths of the files.
        overwrite: Whether to replace existing files.
        cast: Whether values may lose precision.
        accept_unconfirmed: Whether the report passes although the plan has unconfirmed pairs.
        memory: The memory of a live target's values: "copy", or "share" for the memory of the source.
        max_shard_size: The size of a shard in bytes, if the tensors are to be divided among several files.
        ray: The address of a Ray cluster that writes the shards of an output; None to write them in this process.
        progress: A function to call before every tensor that is written to a file.
        stages: The times that the stages take.
    """

    out: tuple[Path, ...] = ()
    overwrite: bool = False
    cast: bool = False
    accept_unconfirmed: bool = False
    memory: Memory = "copy"
    max_shard_size: int | None = None
    ray: str | None = None
    progress: formats.Progress = _report_bytes
    stages: Stages = field(default_factory=Stages)


def transfer(
    source: Model, target: Model, plan: Alignment, options: Options, *, entry: str = "", loaded: Sequence[ReadFile] = ()
) -> Report:
    """Write the weights of one model to a model or file of the other framework, and return the report.

    Args:
        source: The model to read: a live model or the path of a file.
        target: A live model of the other framework, or the path of a file to write.
        plan: The pairs of tensors.
        options: The files to write, and what is allowed.
        entry: The name of the state dict in a torch checkpoint that holds several; by default that of the plan.
        loaded: The files from which a live source was loaded, for the report and the manifest.
    """
    memory, stages = options.memory, options.stages
    if memory not in get_args(Memory):
        raise InputError(f'memory must be "copy" or "share", but is {memory!r}')
    read, written = resolve(source, "source", entry=entry), resolve(target, "target")
    if read.side == written.side:
        raise InputError(
            f"source and target are both {read.side} models, but a transfer goes from one framework to the other"
        )
    plan = with_names_of(plan, read, written)
    notes = read.origin_notes()
    if memory == "share":
        shared, facts = _shared(read, written, plan, options.out, cast=options.cast, stages=stages)
        remember_port(written.source, read.source)
        report = _report(shared, (), (), facts, accept_unconfirmed=options.accept_unconfirmed)
        return replace(report, seconds=stages.seconds)
    if isinstance(read, KerasFile):
        read, notes = (read, read.notes()) if _has_the_tensors(read.view(), plan) else read.opened()
    view = read.view(described=False, planned=plan.torch)
    record = Record.of(read, plan, view.state_dict, loaded)
    if isinstance(written, ModelFile):
        staging, files = _into_files(view, written, options, record)
    else:
        staging, files = _into_live(read, view, written, options, record)
    if written.is_live:
        remember_port(written.source, read.source)
    facts = record.source_facts() if files else {}
    notes += view.notes + other_state_dict(plan, (view.state_dict, *(file.entry for file in loaded)))
    report = _report(staging, files, notes, facts, accept_unconfirmed=options.accept_unconfirmed)
    return replace(report, seconds=stages.seconds, sources=record.read if files else ())


def _has_the_tensors(keras: ModelView, plan: Alignment) -> bool:
    """Return True if a Keras file has every Keras tensor of a plan, with the same path and shape.

    The weights can then be written into the file without loading its model with Keras.
    """
    shapes = {tensor.path: tensor.shape for tensor in keras.tensors()}
    return all(shapes.get(tensor.path) == tensor.shape for tensor in plan.keras.tensors() if not tensor.is_seed)


def _into_live(
    read: Adapter, source: ModelView, target: LiveModel, options: Options, record: Record
) -> tuple[Staging, tuple[WrittenFile, ...]]:
    """Write the weights to a live model, and save the model; if a file cannot be written, restore the old weights."""
    stages = options.stages
    if options.ray is not None:
        raise InputError(
            "ray is for a target that is a file in shards, but this target is a live model\nFix:  ray=None"
        )
    view = target.view(described=False, planned=record.plan.torch)
    with stages.stage("check"):
        copy = unquantized(read, target, view, record.plan) if options.cast else None
        plan, filled = (copy.plan, copy.plan.keras) if copy else (record.plan, view)
        staging = stage(plan, source, filled, cast=options.cast)
    for path in options.out:
        if formats.side_of(path) != target.side:
            raise InputError(
                f"{with_article(target.side)} model cannot be saved to {path}: the suffix is that of another format"
            )
    with stages.stage("check"):
        staging.require_values()
    paths, finite = tuple(tensor.path for tensor in view.tensors()) if copy else staging.paths, set[str]()
    with target.restored_on_failure(paths) if options.out else nullcontext():
        with stages.stage("write"):
            values = copy.quantized(staging.values()) if copy else staging.values(finite)
            target.write(values, planned=record.plan.torch, finite=finite)
        with stages.stage("save"):
            outputs = [target.output(path, max_shard_size=options.max_shard_size) for path in options.out]
            return staging, _write(outputs, options, record)


def _shared(
    source: Adapter, target: Adapter, plan: Alignment, out: Sequence[Path], *, cast: bool, stages: Stages
) -> tuple[Staging, dict[str, str]]:
    """Let a live model use the memory of another model; values that are computed, not just a view, are copied.

    Returns:
        The values, and facts for the report about which tensors are shared and which are copied.
    """
    if isinstance(source, ModelFile) or isinstance(target, ModelFile):
        raise InputError('memory="share" needs two live models, but one side is a file\nFix:  memory="copy"')
    if out:
        raise InputError('memory="share" writes no files: save the model after the transfer\nFix:  out=()')
    from keras3conv.frameworks.torch.tensors import share

    tensors = source.torch_tensors(), target.torch_tensors()
    with stages.stage("check"):
        views = (side.view(described=False, planned=plan.torch) for side in (source, target))
        staging = stage(plan, *views, cast=cast)
        require_no_computed(staging)
        staging.require_values()
    with stages.stage("share"):
        shared, copied = share(*tensors, staging.values_and_sources(counted=False))  # no value moves
    facts = {
        "shared memory": f"{len(shared)} of {count(len(staging.paths), 'tensor')}: a change of one model changes both"
    }
    return staging, facts | ({"copied": ", ".join(copied)} if copied else {})


def _into_files(
    source: ModelView, target: ModelFile, options: Options, record: Record
) -> tuple[Staging, tuple[WrittenFile, ...]]:
    """Write the transferred weights to files, without a live model of the target's framework.

    If the target file exists, the written files have its tensors. Otherwise they have the tensors of the plan.
    """
    exists, plan = os.path.lexists(target.source), record.plan
    if exists and not options.out and not options.overwrite:
        other = target.source.with_name(f"new_{target.source.name}")
        raise FileError(
            f"{target.source} exists, so it was not changed: write a copy with the new weights, or overwrite it\n"
            f'Fix:  out="{other}"     or     overwrite=True'
        )
    planned = plan.keras if target.side == "keras" else plan.torch
    stages = options.stages
    with stages.stage("check"):
        staging = stage(plan, source, target.view(planned=plan.torch) if exists else planned, cast=options.cast)
        require_no_computed(staging)
    tensors, read = inventory(staging, complete=exists), reader(staging, complete=exists)
    paths = options.out or (target.source,)
    outputs = [target.output(path, tensors, read, max_shard_size=options.max_shard_size) for path in paths]
    with stages.stage("write"):
        if options.ray is None:
            return staging, _write(outputs, options, record)
        sharded = [_sharded(output) for output in outputs]
        with shards_on_ray(options.ray, staging) as spread:
            return staging, _write([replace(output, spread=spread) for output in sharded], options, record)


def _sharded(output: formats.Output) -> formats.Destination:
    """Return an output unchanged, after a check that it has shards, which a Ray cluster can write.

    Raises:
        InputError: The output is a single file.
    """
    if isinstance(output, formats.Destination) and output.shards:
        return output
    raise InputError(f'{output.path} is one file: only shards are written on Ray\nFix:  max_shard_size="2GB"')


def _write(outputs: Sequence[formats.Output], options: Options, record: Record) -> tuple[WrittenFile, ...]:
    """Write all outputs and their manifests, or none; return the files."""
    if not outputs:
        return ()
    with record.digesting():
        written = formats.write_all(
            outputs, overwrite=options.overwrite, job=record.job, progress=options.progress, describe=record.describe
        )
    return tuple(one.file for one in written)


def _reason(plan: Alignment, unconfirmed: Sequence[Pair]) -> str:
    """Return the reasons why a transfer counts as unconfirmed; warn if the models are known to differ in output."""
    reasons = [unconfirmed_reason(unconfirmed)] if unconfirmed else []
    if plan.difference:
        reason = f"{plan.difference}. Every weight fits in one place only, so the code of the models differs"
        asked = "validate names the cause, accept_difference=True says that the difference is known"
        warnings.warn(f"{plan.torch.title} and {plan.keras.title}: {reason}; {asked}", stacklevel=4)
        reasons.insert(0, reason)
    return ". ".join(reasons)


def _report(
    staging: Staging,
    files: tuple[WrittenFile, ...],
    origin: tuple[str, ...],
    facts: Mapping[str, str],
    *,
    accept_unconfirmed: bool,
) -> Report:
    plan, target = staging.plan, staging.target
    loss = declared_loss(plan.mappings)
    numbers = sum(int(np.prod(tensor.shape)) for tensor in target.tensors() if staging.has(tensor))
    unconfirmed = () if accept_unconfirmed else plan.unconfirmed
    section = Section(
        name="transfer",
        status="unconfirmed" if unconfirmed or plan.difference else "passed",
        reason=_reason(plan, unconfirmed),
        claim="Every tensor of the plan was read, transformed, checked and written; all or nothing.",
        summary=f"{count(len(staging.paths), 'tensor')}, {numbers:,} numbers: {staging.source.title} -> {target.title}"
        + (f"; {plan.accepted_difference} (accepted)" if plan.accepted_difference else ""),
        facts={
            **({NOT_CONFIRMED: f"{len(unconfirmed)} of {count(len(plan.pairs), 'pair')}"} if unconfirmed else {}),
            **facts,
            **({"declared loss": loss} if loss else {}),
            **accepted_difference(plan),
        },
        tables=(pairs_table(plan),),
    )
    return Report(
        title=f"Transfer: {staging.source.title} -> {target.title}",
        sections=(section,),
        files=files,
        environment=current_environment(),
        notes=(*origin, *staging.notes()),
    )
