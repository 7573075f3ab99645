"""Complete the commands that messages suggest, with the arguments of the running command."""

import os
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from keras3conv.cli.imported import import_options
from keras3conv.cli.lines import ALIGN, ROOT, VALIDATE, as_options
from keras3conv.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from keras3conv.alignment.plan import Alignment
    from keras3conv.model.views import Side


def names_for(
    torch: str,
    keras: str,
    torch_weights: Path | None,
    keras_weights: Path | None,
    *,
    plan: Path | None = None,
    entry: str = "",
    again: "Sequence[str] | None" = None,
) -> dict[str, str]:
    """Return the replacements of placeholders in suggested commands: {"TORCH": "net.pt", "KERAS": "net.keras"}.

    "TORCH" and "KERAS" are replaced by the arguments of the running command, " --plan PLAN.json" by the options for
    the plan, the weights and the state dict, and the start of an `align` command by this command with all options. For
    a file that Keras cannot load, `validate` takes the place of `convert`.

    Args:
        torch: The torch model: a file or a factory.
        keras: The Keras model: a file or a factory.
        torch_weights: The weights to load into the torch model.
        keras_weights: The weights to load into the Keras model.
        plan: The file of the plan.
        entry: The name of the state dict, if a torch checkpoint holds several.
        again: The further options of the running command if it is `align`, which is then suggested again. None for any
            other command: the suggested `align` then saves its plan to a new file, "-o plan.json".
    """
    weights = loading_options(torch_weights, keras_weights)
    read = weights + (f" --entry {quote(entry)}" if entry else "")
    rest = f" -o {quote(str(_new_plan(plan)))}" if again is None else "".join(f" {quote(one)}" for one in again)
    align = f"keras3conv align {quote(torch)} {quote(keras)}{read}"
    made = "keras_net.py:make_model"
    planned = f" --plan {quote(str(plan))}" if plan else ""
    return {
        f"keras3conv convert {made} --keras-weights {quote(keras)} -o FOLDER": (
            f"keras3conv validate {quote(torch)} {made} --keras-weights {quote(keras)}{planned}{read}"
        ),
        f"{ALIGN} -o": f"{align} -o",
        ALIGN: f"{align}{rest}",
        VALIDATE: f"keras3conv validate {quote(torch)} {quote(keras)}{read}",
        "TORCH": quote(torch),
        "KERAS": quote(keras),
        " --plan PLAN.json": f"{planned}{read}",
    }


def names_for_convert(arguments: "Mapping[str, Any]") -> dict[str, str]:
    """Return the replacements of placeholders in a suggested `convert` command: its inputs, and its folder.

    Args:
        arguments: The arguments of the command that failed.
    """
    shape, inputs, entry = arguments["shape"], arguments["inputs"], arguments["entry"]
    asked = f" --shape {quote(shape)}" if shape else f" --inputs {quote(str(inputs)) if inputs else 'FILE.npz'}"
    named = f" --entry {quote(entry)}" if entry else ""
    out = f" -o {quote(str(arguments['out']))}"
    code = import_options()
    return {" --inputs FILE.npz -o FOLDER": f"{asked}{named}{code}{out}", " -o FOLDER": f"{code}{out}"}


def loading_options(torch_weights: Path | None, keras_weights: Path | None) -> str:
    """Return the options with which a command loads weights and imports code: " --torch-weights net.pt"; or empty.

    The code is that of --import of the running command.

    Args:
        torch_weights: The weights to load into the torch model.
        keras_weights: The weights to load into the Keras model.
    """
    sides = (("torch", torch_weights), ("keras", keras_weights))
    weights = "".join(f" --{side}-weights {quote(str(path))}" for side, path in sides if path)
    return weights + import_options()


def words_of(options: "Mapping[str, Any]") -> list[str]:
    """Return options as words of a command line: {"hint": ["fc=dense"]} gives ["--hint", "fc=dense"].

    With the option "out" the words end with "--overwrite", because the suggested command writes the same file again.

    Args:
        options: The value of each option by its name without dashes: a path, a list of texts, or None to leave it out.
    """
    words = []
    for name, value in options.items():
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{name}", str(one)]
    return [*words, "--overwrite"] if options.get("out") else words


@contextmanager
def aligned_first(sides: "Mapping[Side, str]", options: str, plan: Path | None) -> "Iterator[None]":
    """Complete the `align` command in the error of a transfer whose plan is for other models.

    Args:
        sides: For each side, the argument that the transfer was given.
        options: The further options of the transfer that `align` needs, too.
        plan: The file of the plan; the suggested command writes another one beside it.
    """
    try:
        yield
    except TransferError as error:
        raise TransferError(align_first(as_options(error.message), sides, options, plan)) from error


def _new_plan(plan: Path | None) -> Path:
    """Return the path to which a suggested `align` writes its plan: a file that does not exist.

    Args:
        plan: The file of the plan that the running command was given; the new one is beside it.
    """
    return unused(plan.with_name(f"new_{plan.name}") if plan else Path("plan.json"))


def unused(first: Path) -> Path:
    """Return a path, or if a file has it already, the first one with a number that no file has: "plan_2.json"."""
    others = (first.with_name(f"{first.stem}_{number}{first.suffix}") for number in count(2))
    return next(path for path in chain([first], others) if not os.path.lexists(path))


def hints_of(plan: "Alignment") -> list[str]:
    """Return the hints by which a plan was made, as values of --hint: ["fc=dense"]."""
    found = [(pair.torch or ROOT, pair.keras or ROOT) for pair in plan.pairs if pair.decided_by == "hint"]
    return [f"{torch}={keras}" for torch, keras in found]


def align_first(
    message: str, sides: "Mapping[Side, str]", options: str, plan: Path | None, hints: "Sequence[str]" = ()
) -> str:
    """Return the error of a transfer whose plan has problems, with the commands that make and use another plan.

    The suggested commands become "keras3conv align ... --hint fc=dense -o plan.json". A line follows them:
    "Then:  the same transfer with --plan plan.json". A suggested `validate` gets the arguments of the transfer.

    Args:
        message: The error message of `Alignment.check`, which suggests options of `align`.
        sides: For each side, the argument that the transfer was given.
        options: The further options of the transfer that `align` needs, too, such as " --entry ema".
        plan: The file of the plan that the transfer was given; the suggested `align` writes another one beside it.
        hints: The hints by which this plan was made.
    """
    new = str(_new_plan(plan))
    options += "".join(f" --hint {quote(one)}" for one in hints)
    command = f"keras3conv align {quote(sides['torch'])} {quote(sides['keras'])}{options} -o {quote(new)}"
    message = message.replace(ALIGN, command)
    message = message.replace(VALIDATE, f"keras3conv validate {quote(sides['torch'])} {quote(sides['keras'])}{options}")
    return f"{message}\nThen:  the same transfer with --plan {quote(new)}" if command in message else message
