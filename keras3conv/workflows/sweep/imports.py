"""Import factories, without calling them, in a separate process: `python -m ... FACTORY FACTORY`.

The process prints one line of JSON for each factory: a string with the error, empty if there is none.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from keras3conv.errors import Keras3ConvError, message_of
from keras3conv.workflows.factories import factory_of, find_factory


def main(arguments: Sequence[str]) -> None:
    """Import factories, and print the error of each as a line of JSON; output of the imported modules is discarded."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        for argument in arguments:
            print(json.dumps(fault_of(argument)), file=answers, flush=True)


def fault_of(argument: str) -> str:
    """Return the import error of a factory in one line; an empty text if it can be imported."""
    try:
        factory = factory_of(argument)
        if factory is not None:
            find_factory(*factory)
    except (Keras3ConvError, ModuleNotFoundError) as error:
        return " ".join(message_of(error).split())
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
