"""Run an untrusted ONNX file in a subprocess.

The command line is `python -m keras3conv.validators.onnx.child FILE INPUTS OUTPUTS MODE MEMORY`.

The graph of an untrusted file may run for ever or allocate all memory, so the subprocess has a memory limit, and the
caller sets a time limit. MODE "native" runs the unchanged file in onnxruntime. MODE "float64" runs the file in onnx's
reference evaluator, with all numbers in float64.
"""

import sys
from pathlib import Path

import numpy as np

from keras3conv.errors import message_of

REFUSED = 3
"""The exit status of the subprocess if the file cannot be run; the reason is on stderr."""


def main(arguments: list[str]) -> int:
    """Run the ONNX file of the command line.

    Return 0 if outputs were written, else `REFUSED` with the reason on stderr.
    """
    from keras3conv.errors import ModelError

    model, inputs, outputs, mode, memory = arguments
    _limit_memory(int(memory))
    with np.load(inputs) as stored:
        arrays = [stored[name] for name in stored.files]
    try:
        if mode == "native":
            from keras3conv.validators.onnx.session import run

            results = run(Path(model), arrays, twice=True)
        else:
            from keras3conv.validators.onnx.float64 import run_float64

            results = run_float64(Path(model), arrays)
    except (ModelError, MemoryError) as error:
        sys.stderr.write(f"{message_of(error) or 'out of memory'}\n")
        return REFUSED
    np.savez(outputs, np.asarray(list(results)), *results.values())
    return 0


def _limit_memory(size: int) -> None:
    """Limit the memory (data segment) of this process to a number of bytes."""
    if sys.platform == "win32":  # Windows has no such limit; only the caller's time limit applies
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
