"""Runs an ONNX file in a process of its own: `python -m keras3conv.validators.onnx.child FILE INPUTS OUTPUTS MODE`.

What a file of somebody else computes may never end, or take all memory there is; so its process has a limit of both.
MODE is "own" for the file as it is, in onnxruntime; "float64" for the file with every number in float64, in onnx's
reference evaluator.
"""

import sys
from pathlib import Path

import numpy as np


def main(arguments: list[str]) -> int:
    """Runs the file; 0 if the outputs were written, 3 with a line on stderr if the file was refused."""
    from keras3conv.errors import ModelError

    model, inputs, outputs, mode, memory = arguments
    _limit(int(memory))
    with np.load(inputs) as given:
        arrays = [given[name] for name in given.files]
    try:
        if mode == "own":
            from keras3conv.validators.onnx.session import run

            found = run(Path(model), arrays, twice=True)
        else:
            from keras3conv.validators.onnx.float64 import run_wide

            found = run_wide(Path(model), arrays)
    except (ModelError, MemoryError) as error:
        sys.stderr.write(f"{str(error) or 'out of memory'}\n")
        return 3
    np.savez(outputs, np.asarray(list(found)), *found.values())
    return 0


def _limit(memory: int) -> None:
    """Allows so many bytes more than what the process has now."""
    if sys.platform == "win32":  # which has no such limit; that of the time holds
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
