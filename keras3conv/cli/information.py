"""Define the commands `inspect`, `rules`, `doctor` and `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from keras3conv.cli.app import FAILED, PASSED, command
from keras3conv.cli.options import Debug, EntryName, Json, KerasWeights, TorchWeights


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
    from keras3conv.cli.old_settings import settings_read_as_keras_2
    from keras3conv.cli.output import model_json, model_text
    from keras3conv.garbage import collection_paused
    from keras3conv.workflows.factories import Weights, resolve

    adapter = resolve(model, Weights(torch=torch_weights, keras=keras_weights, entry=entry))
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
