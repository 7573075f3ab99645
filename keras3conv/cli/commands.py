"""Define the commands of the command line, a thin layer over the public functions.

A command imports its modules when it runs, so that `--help` is fast. Exit status: 0 passed, 1 a proof or an alignment
failed, 2 an argument or a file cannot be used, 130 interrupted.
"""

import io
import sys
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from keras3conv.cli.app import FAILED, PASSED, START, UNUSABLE, app, command, note
from keras3conv.cli.converting import convert
from keras3conv.cli.handing import hand_out, is_complete, print_report, status_of
from keras3conv.cli.information import demo, doctor, inspect, rules, verify
from keras3conv.cli.options import (
    Backends,
    ClassNamesFile,
    Debug,
    EntryName,
    ExpectedFile,
    FilesOut,
    HintList,
    InputsFile,
    Json,
    KerasInputsFile,
    KerasSide,
    KerasWeights,
    LabelsFile,
    Local,
    Onnx,
    OnnxFolder,
    OnnxInputsFile,
    Overwrite,
    PlanFile,
    PlanOut,
    Probe,
    Proofs,
    RayAddress,
    ReportFile,
    ShardSize,
    ToleranceText,
    TorchSide,
    TorchWeights,
    Training,
)
from keras3conv.cli.read import code_read, files_read
from keras3conv.cli.sides import align_ends, align_with_hints, both, both_ends, made_without_weights, require_out
from keras3conv.cli.suggested import aligned_first, loading_options, names_for, words_of
from keras3conv.cli.sweeping import card, sweep
from keras3conv.garbage import process_of_a_command
from keras3conv.workflows.user_code import notes_to_stderr

__all__ = [
    "align",
    "app",
    "card",
    "compare_onnx",
    "convert",
    "demo",
    "doctor",
    "inspect",
    "main",
    "rules",
    "sweep",
    "transfer",
    "validate",
    "verify",
]


def main() -> None:
    """Run the command line and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Files have names that a terminal cannot encode. Without buffers, both streams keep order in one pipe.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    with process_of_a_command():
        app(prog_name="keras3conv")


def _print_version(wanted: bool) -> None:
    if wanted:
        from keras3conv import __version__

        print(f"keras3conv {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Print a short introduction if no command is given; an option such as --version is handled by its own callback."""
    if context.invoked_subcommand is None:
        print(START)
        raise typer.Exit(UNUSABLE)


@command("keras3conv align net.py:make model.h5 -o plan.json")
def align(  # noqa: PLR0913 - an argument for every option
    torch: TorchSide,
    keras: KerasSide,
    *,
    out: PlanOut = None,
    torch_weights: TorchWeights = None,
    keras_weights: KerasWeights = None,
    entry: EntryName = "",
    inputs: InputsFile = None,
    keras_inputs: KerasInputsFile = None,
    hint: HintList = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="PATH=REASON", help="A layer or tensor to ignore; may be repeated.")
    ] = None,
    probe: Probe = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Match the tensors of two models. The exit status is 1 if a tensor has no counterpart, or the outputs differ."""
    from keras3conv import api
    from keras3conv.alignment.text import describe
    from keras3conv.cli.files import ignoring, read_hints, read_ignored
    from keras3conv.cli.lines import as_options
    from keras3conv.width import folded
    from keras3conv.workflows.files import read_inputs, write_plan

    hints, ignored = read_hints(hint or ()), read_ignored(ignore or ())
    given = read_inputs(inputs), read_inputs(keras_inputs)
    (torch_side, keras_side), named = both(torch, keras, torch_weights, keras_weights, entry)
    with notes_to_stderr():
        plan = api.align(
            torch_side.source,
            keras_side.source,
            inputs=given[0],
            keras_inputs=given[1],
            hints=hints,
            probe=None if probe else False,
            entry=entry,
        )
    for path, reason in ignored:
        plan = ignoring(plan, path, reason)
    if out:
        write_plan(plan, out, overwrite=overwrite)
        note(f"saved {out}")
    further = {"hint": hint, "ignore": ignore, "inputs": inputs, "keras-inputs": keras_inputs, "out": out}
    names = names_for(*named, entry=entry, again=words_of(further))
    print(plan.to_json() if as_json else folded(as_options(describe(plan), names)))
    return FAILED if plan.problems() or plan.difference else PASSED


@command("keras3conv transfer model.h5 net.py:make -o net.safetensors")
def transfer(  # noqa: PLR0913 - an argument for every option
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The model to read: a file, or a factory.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The model to write: a file, or a factory and -o.")],
    *,
    plan: PlanFile = None,
    out: FilesOut = None,
    torch_weights: TorchWeights = None,
    keras_weights: KerasWeights = None,
    entry: EntryName = "",
    overwrite: Overwrite = False,
    cast: Annotated[bool, typer.Option("--cast", help="Allow a loss of precision in narrower dtypes.")] = False,
    accept_difference: Annotated[
        bool, typer.Option("--accept-difference", help="Move the weights although the outputs are known to differ.")
    ] = False,
    accept_unconfirmed: Annotated[
        bool, typer.Option("--accept-unconfirmed", help="Exit with 0 although no run has confirmed some pairs.")
    ] = False,
    max_shard_size: ShardSize = None,
    ray_address: RayAddress = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Transfer weights to a file of the other framework, or to a model that is then saved. All or nothing.

    The exit status is 3 if the weights were transferred by pairs that no run has confirmed.
    """
    from keras3conv.cli.next_command import after_transfer, entry_read
    from keras3conv.formats.shards import parse_size
    from keras3conv.workflows.files import read_plan
    from keras3conv.workflows.transfer import Options
    from keras3conv.workflows.transfer import transfer as run

    saved = read_plan(plan) if plan else None
    ends = both_ends(source, target, torch_weights, keras_weights, entry)
    require_out(target, ends[1], out or ())
    with notes_to_stderr():
        found = saved or align_ends(*ends, entry)
        found = found.accepting_difference() if accept_difference else found
        named = f" --entry {quote(entry)}" if entry else ""
        given = {ends[0].side: source, ends[1].side: target}
        if not is_complete(found, given, read := loading_options(torch_weights, keras_weights) + named, plan):
            return FAILED
        options = Options(
            out=tuple(out or ()),
            overwrite=overwrite,
            cast=cast,
            accept_unconfirmed=accept_unconfirmed,
            max_shard_size=parse_size(max_shard_size) if max_shard_size else None,
            ray=ray_address,
        )
        loaded = files_read(source, ends[0], torch_weights, keras_weights, entry)
        with aligned_first(given, read, plan):
            report = run(ends[0].source, ends[1].source, found, options, entry=entry, loaded=loaded)
    print(report.to_json()) if as_json else print_report(report)
    weights, named = (torch_weights, keras_weights), named or entry_read(report, saved)
    note("\n".join(after_transfer(report, found, (source, target), ends, out or (), weights, named)))
    return status_of(report)


@command("keras3conv validate net.py:make model.keras --torch-weights net.pt --report report.html")
def validate(  # noqa: PLR0913 - an argument for every option
    torch: TorchSide,
    keras: KerasSide,
    *,
    report: ReportFile = None,
    plan: PlanFile = None,
    torch_weights: TorchWeights = None,
    keras_weights: KerasWeights = None,
    entry: EntryName = "",
    inputs: InputsFile = None,
    keras_inputs: KerasInputsFile = None,
    hint: HintList = None,
    proof: Proofs = None,
    tolerance: ToleranceText = None,
    training: Training = False,
    labels: LabelsFile = None,
    class_names: ClassNamesFile = None,
    backends: Backends = None,
    onnx: Onnx = False,
    onnx_dir: OnnxFolder = None,
    expected: ExpectedFile = None,
    local: Local = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Prove that two models compute the same. If they differ, report where and why; the exit status is 1."""
    from keras3conv.cli import files as cli_files
    from keras3conv.validators.running.options import Options
    from keras3conv.workflows.files import read_class_names, read_inputs, read_labels
    from keras3conv.workflows.validate import validate as run

    cli_files.check_reports(report or ())
    saved, hints = cli_files.read_plan_or_hints(plan, hint or ())
    options = Options(
        proofs=proof or (),
        tolerance=cli_files.read_tolerance(tolerance),
        training=training,
        labels=read_labels(labels),
        class_names=read_class_names(class_names) or (),
        onnx=onnx_dir or onnx,
        backends=backends.split(",") if backends else (),
        expected=expected,
        local=local,
    )
    given = {"inputs": read_inputs(inputs), "keras_inputs": read_inputs(keras_inputs)}
    sides, named = both(torch, keras, torch_weights, keras_weights, entry, local=local)
    options = replace(options, factories=made_without_weights(*named))
    with notes_to_stderr():
        judged = run(
            *(side.source for side in sides),
            **given,
            plan=align_with_hints(*sides, hints, given, entry) if hints else saved,
            options=options,
            entry=entry,
            weight_files=(torch_weights, keras_weights),
            data=(inputs, keras_inputs, labels, expected),
            code=code_read(torch, keras),
        )
    return hand_out(judged, report or (), as_json=as_json, names=names_for(*named, plan=plan, entry=entry))


@command("keras3conv compare-onnx first.onnx second.onnx")
def compare_onnx(
    first: Annotated[Path, typer.Argument(metavar="FIRST.onnx", help="An ONNX file.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND.onnx", help="Another ONNX file.")],
    *,
    report: ReportFile = None,
    inputs: OnnxInputsFile = None,
    tolerance: ToleranceText = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Run two ONNX files on the same inputs, and compare their outputs. Both files are checked before they run."""
    from keras3conv import api
    from keras3conv.cli.files import check_reports, read_tolerance
    from keras3conv.workflows.files import read_inputs

    check_reports(report or ())
    judged = api.compare_onnx(first, second, read_inputs(inputs), tolerance=read_tolerance(tolerance))
    return hand_out(judged, report or (), as_json=as_json)
