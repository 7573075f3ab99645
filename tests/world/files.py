"""List the Keras 2 files for the tests of this folder, each with its golden inputs and outputs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent / "files"

REFUSED = {
    "refused": ("LocallyConnected2D", "no code is ever run from a file"),
    "images_refused": ("tf.image.adjust_saturation",),
    "einsum": ("tf.einsum", "does not store the tensors"),
}
"""The networks that are refused, with words that the message must contain."""


@dataclass(frozen=True)
class OldFile:
    """A model that Keras 2 saved.

    Attributes:
        path: The file; a `.json` has its weights beside it, in a `.h5` of the same name.
    """

    path: Path

    @property
    def name(self) -> str:
        """The name of the network."""
        return self.path.stem.removesuffix("_weights")

    @property
    def id(self) -> str:
        """A short name for the test."""
        return f"{self.path.parent.name}-{self.path.name}"

    @property
    def version(self) -> str:
        """The version of Keras in the name of the folder; that of TensorFlow is the same from 2.4 on."""
        return self.path.parent.name.rpartition("-")[2]

    @property
    def weights(self) -> Path | None:
        """The weight file, if it is a separate file."""
        return self.path.with_suffix(".h5") if self.path.suffix == ".json" else None

    def arrays(self, kind: str) -> tuple[Any, ...]:
        """The golden inputs ("input") or outputs ("output"), in order."""
        return tuple(array for name, array in self._arrays.items() if name.startswith(kind))

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        with np.load(self.path.with_name(f"{self.name}.npz")) as stored:
            return {name: stored[name] for name in stored.files}


def old_files() -> list[OldFile]:
    """Return every file with an architecture, in a stable order."""
    found = [path for path in FOLDER.glob("*/*") if path.suffix in (".h5", ".keras", ".json")]
    return [OldFile(path) for path in sorted(found) if not path.name.endswith("_weights.h5")]


READ = [file for file in old_files() if file.name not in REFUSED]
"""The files that are read and converted."""
