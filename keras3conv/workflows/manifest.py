"""Write a manifest (a JSON file) beside every output, with its sources, the versions of the software, and all digests.

The manifest of `model.weights.h5` is `model.weights.h5.manifest.json`. It holds no date and no path of a folder, so
that equal transfers write equal bytes. docs/files.md describes the format. `verify` compares the files with the
manifest.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import FileError
from keras3conv.formats.safe.source import Source
from keras3conv.frameworks.adapter import Adapter
from keras3conv.report.report import current_environment
from keras3conv.workflows.sources import files_of, read_file
from keras3conv.writing import indented
from keras3conv.writing.digests import ReadFile

FORMAT = 1
"""The number of the format of a manifest."""


@dataclass(frozen=True)
class Record:
    """The source and the plan of a transfer, for the manifests of its outputs.

    Attributes:
        plan: The plan (the pairs of tensors).
        title: The name of the source.
        sources: The files of the source; none if it is a live model.
        entry: The name of the state dict that is read, if a checkpoint holds it under a name.
        loaded: The files from which a live source was loaded; empty if they are unknown.
    """

    plan: Alignment
    title: str
    sources: tuple[Path, ...]
    entry: str = ""
    loaded: tuple[ReadFile, ...] = ()
    _digests: list[Future[tuple[ReadFile, ...]]] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def of(cls, source: Adapter, plan: Alignment, entry: str, loaded: Sequence[ReadFile]) -> "Record":
        """Return the record of a transfer, whose source files are those of the model that is read.

        Args:
            source: The model that is read.
            plan: The plan (the pairs of tensors).
            entry: The name of the state dict that is read, if a checkpoint holds it under a name.
            loaded: The files from which a live source was loaded.
        """
        view = plan.torch if source.side == "torch" else plan.keras
        if source.is_live:
            return cls(plan, view.name, (), loaded=tuple(loaded))
        return cls(plan, source.source.name, files_of(source.source), entry)

    @cached_property
    def read(self) -> tuple[ReadFile, ...]:
        """The files that were read, with their digests."""
        if self._digests:
            return self._digests[0].result()
        return self.loaded or self._read()

    def _read(self, stopped: Event | None = None) -> tuple[ReadFile, ...]:
        return tuple(read_file(path, self.entry, stopped) for path in self.sources)

    @contextmanager
    def digesting(self) -> Iterator[None]:
        """Compute the digests of the source files in other threads while the with block writes the outputs."""
        stopped = Event()
        with ThreadPoolExecutor(1) as pool:
            if self.sources and not self.loaded:
                self._digests.append(pool.submit(self._read, stopped))
            try:
                yield
            except BaseException:
                stopped.set()  # nobody needs them: do not read a large file to its end
                raise

    @cached_property
    def _fingerprint(self) -> str:
        return hashlib.sha256(self.plan.to_json().encode()).hexdigest()

    @property
    def job(self) -> str:
        """A text that is equal for equal transfers.

        The text is JSON of the plan's digest, the name of the state dict, and the size and modification time of each
        source file. A transfer continues a killed transfer with the same text. It is empty for a live source.
        """
        pinned = [(str(path.absolute()), Source.pin(path).size, Source.pin(path).stamp) for path in self.sources]
        return json.dumps([self._fingerprint, self.entry, pinned]) if self.sources else ""

    def source_facts(self) -> dict[str, str]:
        """Return the source files as facts for a report, with the state dict that was read from them, if it has a name.

        For example: {"state dict": "ema", "source a.pt": "sha256 ..., md5 ..."}.
        """
        entry = next((file.entry for file in self.read if file.entry), "")
        named = {"state dict": entry} if entry else {}
        return named | {f"source {file.path}": f"sha256 {file.sha256}, md5 {file.md5}" for file in self.read}

    def describe(self, output: formats.Output, written: Sequence[formats.Written]) -> str:
        """Return the content of the manifest of an output, as JSON data.

        Args:
            output: The output.
            written: The files of the output, with their digests.
        """
        content = {
            "format": FORMAT,
            "files": [_file(one.file) for one in written],
            "source": {"name": self.title, "files": [file.to_json() for file in self.read]},
            "plan": {
                "sha256": self._fingerprint,
                "torch": self.plan.torch.fingerprint,
                "keras": self.plan.keras.fingerprint,
                "pairs": len(self.plan.pairs),
                "unconfirmed": sum(bool(pair.unconfirmed) for pair in self.plan.pairs),
            },
            "verdicts": {
                "plan": "complete: every tensor is paired or ignored with a reason",
                "files": "flushed to disk, read again, and equal to what was written",
            },
            "tensors": [entry for one in written for entry in _tensors(one)],
            "environment": current_environment(),
        }
        return indented.dumps(content, ensure_ascii=False) + "\n"


def _file(file: formats.WrittenFile) -> dict[str, Any]:
    return asdict(file) | {"path": Path(file.path).name}


def _tensors(one: formats.Written) -> list[dict[str, Any]]:
    return [
        {
            "name": tensor.path,
            "location": one.locations.get(tensor.path, tensor.location or tensor.path),
            "file": Path(one.file.path).name,
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "crc32": f"{one.checksums[tensor.path]:08x}",
        }
        for tensor in one.tensors
        if tensor.path in one.checksums
    ]


def read_manifest(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the path of a manifest, and its content.

    Args:
        path: The manifest, or the output that it belongs to.

    Raises:
        FileError: There is no manifest, or the manifest has a different format.
    """
    found = path if path.name.endswith(formats.MANIFEST) else formats.manifest_of(path)
    try:
        content = json.loads(found.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"its manifest {found} cannot be read: {error.strerror}"
        raise FileError(
            f"{path} cannot be verified, because {reason}; transfer writes it beside the file: ask for it where the "
            "file comes from"
        ) from error
    except ValueError as error:
        raise FileError(f"{found} is not a manifest, because it is not valid JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(f"{found} is not a manifest: it must be a JSON object with the format {FORMAT}")
    return found, content
