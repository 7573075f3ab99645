"""Define the command line program, and the exit codes and error messages of its commands."""

import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from keras3conv.errors import Keras3ConvError, MissingExtra, ProofError

PASSED, FAILED, UNUSABLE, UNCONFIRMED, INTERRUPTED = 0, 1, 2, 3, 130
PIPE_CLOSED = 141

_EXTRAS = {
    "torch": "torch",
    "keras": "keras",
    "jax": "jax",
    "tensorflow": "tensorflow",
    "jinja2": "report",
    "sklearn": "dev",
}
"""For each optional package, the extra of keras3conv that installs it."""

_Parameters = ParamSpec("_Parameters")

app = typer.Typer(
    name="keras3conv",
    help="Move a model between PyTorch and Keras 3, in either direction, and prove that nothing changed.\n\n"
    "A model is a file, or package.module:factory, or path/to/file.py:factory. A factory is a callable without "
    "required arguments that returns a torch module or a Keras model; --torch-weights and --keras-weights are loaded "
    "into the model that it returns.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(example: str) -> Callable[[Callable[_Parameters, int]], Callable[_Parameters, None]]:
    """Return a decorator that registers a function as a command; the function returns the exit status.

    The help of the command is the function's docstring, followed by the example.
    """

    def register(function: Callable[_Parameters, int]) -> Callable[_Parameters, None]:
        @wraps(function)
        def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
            try:
                status = function(*args, **kwargs)
                sys.stdout.flush()
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None
            except BrokenPipeError:  # the reader closed the pipe (`| head`); status 1 would mean a failed proof
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(PIPE_CLOSED) from None
            except (Keras3ConvError, OSError, ModuleNotFoundError) as error:
                if kwargs.get("debug"):
                    traceback.print_exc()
                status = _complain(error)
            except BaseException as error:  # an unexpected error: Python's own exit status 1 would mean a failed proof
                traceback.print_exc()
                raise typer.Exit(UNUSABLE) from error
            raise typer.Exit(status)

        summary = (function.__doc__ or "").strip()
        app.command(help=summary, epilog=f"\b\nExample:\n  {example}")(run)
        return run

    return register


def _complain(error: Keras3ConvError | OSError | ModuleNotFoundError) -> int:
    """Print a known error and return its exit status; raise any other error again."""
    from keras3conv.cli.output import as_options

    if isinstance(error, ModuleNotFoundError) and not isinstance(error, Keras3ConvError):
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise error
        error = MissingExtra("this command", package, _EXTRAS[package])
    note(f"{type(error).__name__}: {as_options(str(error))}")
    return FAILED if isinstance(error, ProofError) else UNUSABLE


def note(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr)
