"""Write a sharded model and a single file repeatedly, for a test that kills or limits this process.

    python -m tests.support.killing FOLDER VALUE [LIMIT]

The values of every tensor are VALUE, so that a mixture of two runs is seen. With LIMIT, no file may have more bytes.
"""

import resource
import sys
from pathlib import Path

import numpy as np

from keras3conv import formats
from keras3conv.errors import FileError
from keras3conv.model.views import TensorRef
from keras3conv.transforms import Array

TENSORS = tuple(
    TensorRef(path=f"dense_{place}/kernel", role="kernel", shape=(64, 257), location=f"layers/dense_{place}/vars/0")
    for place in range(6)
)
SHARD = 150_000


def write(folder: Path, value: float) -> None:
    """Write the model as shards, and as one file of each format, all or none."""

    def read(path: str) -> Array:
        return np.full((257, 64), value, np.float32).T

    outputs = [
        formats.Destination.of(folder / "model.safetensors", TENSORS, read, max_shard_size=SHARD),
        formats.Destination.of(folder / "model.weights.h5", TENSORS, read),
        formats.Destination.of(folder / "legacy.h5", TENSORS, read),
    ]
    formats.write_all(outputs, overwrite=True, job="test", describe=lambda output, _: f"{output.path.name} {value}\n")


def main() -> int:
    """Write once; return 3 if the file system refuses."""
    if len(sys.argv) > 3:
        limit = int(sys.argv[3])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        write(Path(sys.argv[1]), float(sys.argv[2]))
    except FileError as error:
        sys.stdout.write(f"{error}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
