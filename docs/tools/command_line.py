"""Generate the documentation page of the command line from its commands and options."""

from collections.abc import Iterator
from typing import Any

import typer.main

from keras3conv.cli.commands import app

_INTRODUCTION = """\
# The command line

Written from the program itself when the site is built. `keras3conv COMMAND --help` prints the same.

A model is a file, or `package.module:factory`, or `path/to/file.py:factory`. A factory is a callable without required
arguments that returns a torch module or a Keras model.

| exit status | meaning |
| --- | --- |
| 0 | everything passed |
| 1 | a proof or an alignment failed |
| 2 | an argument, a file or a model cannot be used |
| 3 | nothing failed, but no run has confirmed some pairs |
| 130 | interrupted |

Results go to stdout, everything else to stderr. `NO_COLOR=1` turns colours off; a pipe gets none. `keras3conv
--install-completion` installs the completion of commands and options in your shell, `--show-completion` prints it.
"""


def page() -> str:
    """Return the page as Markdown: a section for every command, with its arguments and options."""
    program: Any = typer.main.get_command(app)
    context = program.context_class(program, info_name="keras3conv")
    commands = [(name, program.get_command(context, name)) for name in program.list_commands(context)]
    sections = [_INTRODUCTION, "\n".join(_options(program, context))]
    sections += ["\n".join(_command(name, found, context)) for name, found in commands]
    return "\n\n".join(sections) + "\n"


def _command(name: str, command: Any, parent: Any) -> Iterator[str]:
    context = command.context_class(command, info_name=name, parent=parent)
    yield f"## {name}"
    yield ""
    yield " ".join((command.help or "").replace("\b", "").split())
    yield ""
    yield f"```text\nkeras3conv {name} {' '.join(command.collect_usage_pieces(context))}\n```"
    example = (command.epilog or "").rpartition("Example:")[2].strip()
    if example:
        yield f"\nExample:\n\n```text\n{example}\n```"
    yield from _options(command, context)


def _options(command: Any, context: Any) -> Iterator[str]:
    """Yield a table of the arguments and options, as the help of the program has them."""
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [record for record in records if record]
    if rows:
        yield "\n| argument or option | meaning |\n| --- | --- |"
        yield from (f"| `{_cell(left)}` | {_cell(right)} |" for left, right in rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
