"""Define the command line program, and the exit codes and error messages of its commands."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, ParamSpec, TextIO

import typer
from typer.core import TyperGroup

from keras3conv.cli.backend import quieten_tensorflow, use_installed_backend
from keras3conv.cli.exchanged import exchanged
from keras3conv.cli.imported import imports
from keras3conv.cli.placeholders import refuse_placeholders
from keras3conv.errors import EXTRA_OF, Keras3ConvError, MissingExtra, ProofError, message_of

PASSED, FAILED, UNUSABLE, UNCONFIRMED, INTERRUPTED = 0, 1, 2, 3, 130
PIPE_CLOSED = 141

_Parameters = ParamSpec("_Parameters")

START = """\
keras3conv moves models between PyTorch and Keras 3, and proves that nothing
changed. What do you have?

  a Keras file       keras3conv convert model.h5 -o folder/
  a PyTorch module   keras3conv convert net.py:make --shape 1,3,224,224 -o out/
  both models        keras3conv validate net.py:make model.keras
  only weights       keras3conv transfer weights.pt model.keras -o filled.keras
  an unknown file    keras3conv inspect file
  nothing yet        keras3conv demo

keras3conv --help          lists all commands
keras3conv COMMAND --help  shows the options of one, with an example
keras3conv doctor          shows what is installed and what is missing"""
"""The text that is printed if the program is started without a command."""


class _Commands(TyperGroup):
    """All commands, in the order of the help; an unknown command is an error that suggests similar names."""

    _ORDER = (
        "convert",
        "validate",
        "align",
        "transfer",
        "inspect",
        "verify",
        "sweep",
        "card",
        "compare-onnx",
        "rules",
        "doctor",
        "demo",
    )

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of the help."""
        return sorted(self.commands, key=lambda name: (name not in self._ORDER, (*self._ORDER, name).index(name)))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first argument names; for an unknown name, exit and suggest similar names."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = get_close_matches(args[0], self.commands, 3, 0.5)
            complain(f"there is no command {args[0]!r}")
            if near:
                complain(f"Fix:  {'     or     '.join(f'keras3conv {name}' for name in near)}")
            complain("keras3conv --help lists all commands")
            raise typer.Exit(UNUSABLE)
        name, chosen, rest = super().resolve_command(ctx, args)
        self._require_known_options(str(name), chosen, rest)
        return name, chosen, rest

    def _require_known_options(self, name: str, chosen: Any, args: list[str]) -> None:
        """Exit if an option belongs to other commands, and name them; an option of no command is left to the parser.

        Args:
            name: The name of the chosen command.
            chosen: The command.
            args: Its arguments.
        """
        options = {other: {text for one in found.params for text in one.opts} for other, found in self.commands.items()}
        known = {text for one in chosen.params for text in (*one.opts, *one.secondary_opts)}
        given = args[: args.index("--")] if "--" in args else args
        for option in (arg.partition("=")[0] for arg in given if arg.startswith("--")):
            others = [other for other in self.list_commands(None) if option in options[other]]
            if option in known or not others:
                continue
            complain(f"{name} has no option {option}: it is an option of {' and '.join(others)}")
            if "align" in others and "--plan" in known:
                complain(f"keras3conv align writes a plan with it (-o plan.json), which {name} takes: --plan plan.json")
            raise typer.Exit(UNUSABLE)


app = typer.Typer(
    cls=_Commands,
    name="keras3conv",
    help="Move a model between PyTorch and Keras 3, in either direction, and prove that nothing changed.\n\n"
    "A model is a file, or package.module:factory, or path/to/file.py:factory. A factory is a callable without "
    "required arguments that returns a torch module or a Keras model; --torch-weights and --keras-weights are loaded "
    "into the model that it returns.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(
    example: str, *, on_interrupt: str = "", choose_backend: bool = True
) -> Callable[[Callable[_Parameters, int]], Callable[_Parameters, None]]:
    """Return a decorator that registers a function, which returns the exit status, as a command.

    Args:
        example: A command line that the help shows after the function's docstring.
        on_interrupt: The text to print after an interrupt, unless the function prints its own progress.
        choose_backend: Whether Keras uses an installed backend if the one that it would use is not installed.
    """

    def register(function: Callable[_Parameters, int]) -> Callable[_Parameters, None]:
        @wraps(function)
        def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
            verbose, quiet = bool(kwargs.pop("verbose", False)), bool(kwargs.pop("quiet", False))
            imported: Any = kwargs.pop(_IMPORTED, None)
            try:
                if choose_backend:
                    use_installed_backend()
                quieten_tensorflow(computes=any(kwargs.get(name) for name in ("backends", "onnx", "onnx_dir")))
                with _output(verbose=verbose, quiet=quiet):
                    refuse_placeholders({**kwargs, _IMPORTED: imported})
                    _import(imported or ())
                    status = function(*args, **kwargs)
                    sys.stdout.flush()
            except KeyboardInterrupt as interrupt:
                progress_text = str(interrupt) or on_interrupt  # some commands say how far they got
                complain(f"Interrupted: {progress_text}" if progress_text else "Interrupted")
                raise typer.Exit(INTERRUPTED) from None
            except BrokenPipeError:  # the reader closed the pipe (`| head`); status 1 would mean a failed proof
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(PIPE_CLOSED) from None
            except (Keras3ConvError, OSError, ModuleNotFoundError) as error:
                if kwargs.get("debug"):
                    traceback.print_exc()
                status = _complain(error, kwargs)
            except BaseException as error:  # an unexpected error: Python's own exit status 1 would mean a failed proof
                traceback.print_exc()
                raise typer.Exit(UNUSABLE) from error
            raise typer.Exit(status)

        _add_options(run, function)
        summary = (function.__doc__ or "").strip()
        first = " ".join(summary.split()).split(". ")[0].rstrip(".") + "."  # click would cut it off
        app.command(help=summary, short_help=first, epilog=f"\b\nExample:\n  {example}")(run)
        return run

    return register


_Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print every step, table and problem.")]
_Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only; the exit status is the result.")]

_Imported = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="FILE.py|MODULE", help="Code to import first: your layers and rules. Repeatable."),
]

_IMPORTED = "imported"
"""The name of the argument for --import."""

_WITH_IMPORT = ("align", "convert", "inspect", "rules", "transfer", "validate")
"""The commands that read models, which may need code of the user, and the one that lists rules."""

_is_verbose: ContextVar[bool] = ContextVar("is_verbose", default=False)
"""True if the running command has the option --verbose."""

_errors: ContextVar[TextIO | None] = ContextVar("errors", default=None)
"""The stream to which a quiet command prints its errors; None if the command is not quiet."""


def _add_options(run: Callable[..., None], function: Callable[..., int]) -> None:
    """Add the options --verbose and --quiet to a command, and --import to one that may need code of the user.

    Args:
        run: The function that the command calls; its signature is changed in place.
        function: The function of the command without these options; its own parameters come first.
    """
    added: dict[str, Any] = {"verbose": _Verbose, "quiet": _Quiet}
    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in added.items()
    ]
    if function.__name__ in _WITH_IMPORT:
        added[_IMPORTED] = _Imported
        parameters.append(Parameter(_IMPORTED, Parameter.KEYWORD_ONLY, default=None, annotation=_Imported))
    known = signature(function)
    run.__signature__ = known.replace(parameters=[*known.parameters.values(), *parameters])  # type: ignore[attr-defined]
    run.__annotations__ = {**function.__annotations__, **added}


def _import(code: Sequence[str]) -> None:
    """Import the modules and Python files of --import, in order, and keep them for `imported_code`."""
    imports.set(tuple(code))
    if code:
        from keras3conv.workflows.user_code import import_code, notes_to_stderr

        with notes_to_stderr():
            for where in code:
                import_code(where)


def imported_code() -> tuple[Path, ...]:
    """Return the Python files of --import of the running command, whose digests the report states."""
    from keras3conv.workflows.user_code import files_of_code

    return files_of_code(imports.get())


@contextmanager
def _output(*, verbose: bool, quiet: bool) -> Iterator[None]:
    """Show the steps of a command on stderr while the with statement runs; with `quiet`, nothing is shown at all."""
    from keras3conv.cli.progress import shown
    from keras3conv.width import whole_lists

    exchanged.set(False)
    token, verbose_token = _errors.set(sys.stderr if quiet else None), _is_verbose.set(verbose)
    whole = whole_lists.set(verbose)
    try:
        with ExitStack() as stack:
            if quiet:
                nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            stack.enter_context(shown(verbose=verbose, quiet=quiet))
            yield
    finally:
        _errors.reset(token)
        _is_verbose.reset(verbose_token)
        whole_lists.reset(whole)


def _complain(error: Keras3ConvError | OSError | ModuleNotFoundError, arguments: Mapping[str, Any]) -> int:
    """Print an error on stderr, and return the exit status: 1 for a proof that failed, 2 for any other error.

    A missing module that no extra of this package installs is a mistake in the program, and is raised again.

    Args:
        error: The error.
        arguments: The arguments of the running command. A command that the message suggests repeats them.
    """
    from keras3conv.cli.lines import as_options
    from keras3conv.cli.suggested import names_for, names_for_convert

    if isinstance(error, ModuleNotFoundError) and not isinstance(error, Keras3ConvError):
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise error
        error = MissingExtra("this command", package)
    sides: list[Any] = [arguments.get(name) for name in ("torch", "keras", "torch_weights", "keras_weights")]
    plan, entry = arguments.get("plan"), arguments.get("entry", "")
    sides[:2] = sides[1::-1] if exchanged.get() else sides[:2]
    names = names_for(*sides, plan=plan, entry=entry) if sides[0] and sides[1] else {}
    names |= {"SOURCE": quote(arguments["source"])} if isinstance(arguments.get("source"), str) else {}
    names |= names_for_convert(arguments) if "shape" in arguments else {}
    complain(f"{type(error).__name__}: {as_options(message_of(error), names)}")
    return FAILED if isinstance(error, ProofError) else UNUSABLE


def is_verbose() -> bool:
    """Return whether the running command was given --verbose."""
    return _is_verbose.get()


def note(text: str) -> None:
    """Print a line on stderr; a quiet command does not show it."""
    print(text, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Print an error on stderr, not wider than the terminal."""
    from keras3conv.width import folded

    print(folded(text), file=_errors.get() or sys.stderr)
