"""Define the commands `inspect`, `rules`, `doctor`, `demo` and `verify`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras3conv.cli.app import FAILED, PASSED, command
from keras3conv.cli.handing import hand_out
from keras3conv.cli.options import Debug, EntryName, Json, KerasWeights, TorchWeights

if TYPE_CHECKING:
    from keras3conv.frameworks.adapter import Adapter


@command("keras3conv inspect model.safetensors")
def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A file, or a factory.")],
    torch_weights: TorchWeights = None,
    keras_weights: KerasWeights = None,
    entry: EntryName = "",
    every: Annotated[
        bool, typer.Option("--all", help="Print a line for every layer, also for repeated blocks.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """List the layers of a model, with the shapes of their tensors. Repeated blocks share a line."""
    from keras3conv.cli.output import model_json, model_text
    from keras3conv.garbage import collection_paused
    from keras3conv.workflows.factories import Weights, require_used, resolve

    weights = Weights(torch=torch_weights, keras=keras_weights, entry=entry)
    adapter = resolve(model, weights)
    require_used(weights, (model, adapter))
    with collection_paused():
        view = adapter.view()
        changes = settings_read_as_keras_2(adapter)
        text = model_json(view, changes) if as_json else model_text(view, changes, every=every)
    print(text)
    return PASSED


@command("keras3conv rules --markdown")
def rules(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """List the layer classes that can be paired, torch beside Keras."""
    from keras3conv.cli.output import rules_json, rules_markdown, rules_text
    from keras3conv.rules.library import list_rules

    write = rules_json if as_json else rules_markdown if markdown else rules_text
    print(write(list_rules()))
    return PASSED


@command("keras3conv doctor --json", choose_backend=False)
def doctor(as_json: Json = False, debug: Debug = False) -> int:
    """Show what is installed, which Keras backend is chosen, and what each extra would add."""
    from keras3conv.cli import doctor as checks

    if as_json:
        import json

        print(json.dumps(checks.facts(), indent=1))
    else:
        print(checks.text())
    return PASSED


@command("keras3conv demo --out my-folder")
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for the files.")] = Path("keras3conv-demo"),
    debug: Debug = False,
) -> int:
    """Train a small Keras model, convert it to PyTorch, and prove the result. Takes about a minute."""
    from keras3conv.demo.story import tell

    return PASSED if tell(out) else FAILED


_MODELS = (".h5", ".hdf5", ".keras")
"""The suffixes of the files that may hold an architecture of Keras 2."""


def settings_read_as_keras_2(model: "Adapter") -> tuple[tuple[str, str], ...]:
    """Return the layers of a Keras 2 file with settings that mean something else in Keras 3, each with the change."""
    from keras3conv.formats.keras2.changes import changed_settings
    from keras3conv.formats.keras2.file import saved_model

    if model.is_live or model.side != "keras" or not os.fspath(model.source).lower().endswith(_MODELS):
        return ()
    saved = saved_model(model.source)
    return changed_settings(saved.config) if saved else ()


@command("keras3conv verify net.safetensors")
def verify(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A file that was written, the index of its shards, or a folder.")
    ],
    *,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Compare what `transfer` or `convert` wrote with the digests beside it. The exit status is 1 if a byte differs."""
    from keras3conv import api

    return hand_out(api.verify(out), (), as_json=as_json)
