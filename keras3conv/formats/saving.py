"""Write the tensors of a model to a file, or to several shards and an index, and verify the written files."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from keras3conv.errors import FileError
from keras3conv.formats.identify import CONTENTS, by_suffix
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safe.streaming import Progress
from keras3conv.formats.shards import Shards, divide, index_of, weight_map_files
from keras3conv.formats.store import ALL_CHECKS, LAYOUTS, Checks, Written, store
from keras3conv.formats.template import store_in_template
from keras3conv.model.views import Reader, TensorRef
from keras3conv.writing import private_folders
from keras3conv.writing.digests import digest
from keras3conv.writing.outputs import replacing_all

_FINISHED = ".finished"

Spread = Callable[[Sequence[Callable[[], Written]]], Sequence[Written]]
"""A function that runs jobs, each of which writes one shard, and returns the results of the jobs in order."""


class Output(Protocol):
    """The files that a model is written to: the interface of the outputs that `write_all` writes."""

    @property
    def path(self) -> Path:
        """The path of the output: its file, or the index of its shards."""

    def paths(self) -> tuple[Path, ...]:
        """Return the paths of all files of the output: the shards first, the index last."""

    def write(self, temporaries: Sequence[Path], progress: Progress | None = None) -> tuple[Written, ...]:
        """Write all files of the output under temporary paths, in the order of `paths`.

        Args:
            temporaries: The paths to write to; the caller renames the files afterwards.
            progress: A function to call before every tensor.
        """

    def job(self) -> str:
        """Return a text that identifies the content to write, so that a later process can continue after a killed one.

        The text is empty if the output cannot be resumed.
        """

    def superseded(self) -> tuple[Path, ...]:
        """Return the files of the previous output that the new one does not replace; `write_all` deletes them."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """The tensors of a model, to be written to one or several files.

    Attributes:
        path: The path of the file, or of the index of the shards.
        tensors: The tensors, in the order of the model.
        read: A function that returns the values of the tensor with a path.
        template: A Keras file of the same format, from which everything except the weights is copied.
        shards: The shards; None if there is one file.
        checks: The checks to run after writing.
        spread: A function that writes the shards on several machines; None to write them here, one after the other.
    """

    path: Path
    tensors: tuple[TensorRef, ...]
    read: Reader
    template: Path | None = None
    shards: Shards | None = None
    checks: Checks = ALL_CHECKS
    spread: Spread | None = None

    @classmethod
    def of(
        cls,
        path: Path,
        tensors: Sequence[TensorRef],
        read: Reader,
        *,
        template: Path | None = None,
        max_shard_size: int | None = None,
        checks: Checks = ALL_CHECKS,
    ) -> "Destination":
        """Return the destination for a path; raise `FileError` if the tensors cannot be written to it.

        Args:
            path: The file, or the index of shards.
            tensors: The tensors, in the order of the model.
            read: A function that returns the values of the tensor with a path.
            template: A Keras file of the same format, from which everything except the weights is copied.
            max_shard_size: The bytes of a shard, if the tensors are to be divided among several files.
            checks: The checks to run after writing.
        """
        index = index_of(path, max_shard_size)
        _check_names(tensors, path)
        if index is not None:
            shards = divide(index, tensors, max_shard_size)
            return cls(path=index, tensors=tuple(tensors), read=read, shards=shards, checks=checks)
        expected = by_suffix(path)
        if expected == "tensorflow":
            raise FileError(
                f"{path}: TensorFlow checkpoints are read, and not written: choose another suffix, such as .weights.h5"
            )
        if template is None and expected not in LAYOUTS:
            raise FileError(
                f"{path}: {CONTENTS[expected]} can be written only with the live model, because the file also "
                "stores its layers\n"
                f'Fix:  k3c.transfer(source, model, plan, out="{path}")  # the target is a live model'
            )
        return cls(path=path, tensors=tuple(tensors), read=read, template=template, checks=checks)

    def paths(self) -> tuple[Path, ...]:
        """Return the paths of all files to write: the shards first, the index last."""
        return (self.path,) if self.shards is None else (*self.shards.tensors, self.path)

    def job(self) -> str:
        """Return a text that identifies the shards and their tensors, to resume a killed process.

        The text is empty for a single file.
        """
        if self.shards is None:
            return ""
        content = {
            path.name: [
                [tensor.path, tensor.location, tensor.dtype, tensor.shape, tensor.storage] for tensor in tensors
            ]
            for path, tensors in self.shards.tensors.items()
        }
        return json.dumps([str(self.path), content])

    def superseded(self) -> tuple[Path, ...]:
        """Return the shards that only the index of the previous output lists; `write_all` deletes them."""
        if self.shards is None or not self.path.exists():
            return ()
        try:
            old = weight_map_files(Source.pin(self.path))
        except FileError:  # it is not an index, so it lists no shards
            return ()
        known = {path.name for path in self.paths()}
        return tuple(self.path.with_name(name) for name in old if name not in known)

    def write(self, temporaries: Sequence[Path], progress: Progress | None = None) -> tuple[Written, ...]:
        """Write all files under temporary paths, in the order of `paths`; skip shards that an earlier process wrote.

        Args:
            temporaries: The paths to write to; the caller renames the files afterwards.
            progress: A function to call before every tensor.
        """
        if self.shards is None:
            return (self._write_one(temporaries[0], progress),)
        shown = None if self.spread else progress  # another machine cannot show it
        jobs = [
            partial(_shard, temporary, path, self.shards.kind, tensors, self.read, self.checks, shown)
            for (path, tensors), temporary in zip(self.shards.tensors.items(), temporaries[:-1], strict=True)
        ]
        written = self.spread(jobs) if self.spread else [job() for job in jobs]
        temporaries[-1].write_text(self.shards.index_text() + "\n", encoding="utf-8")
        private_folders.synchronise(temporaries[-1])
        return (*written, Written(file=replace(digest(temporaries[-1]), path=str(self.path))))

    def _write_one(self, temporary: Path, progress: Progress | None) -> Written:
        expected = by_suffix(self.path)
        if self.template is None:
            return store(temporary, self.path, expected, self.tensors, self.read, self.checks, progress)
        return store_in_template(temporary, self.path, self.template, self.tensors, self.read, progress)


def write_all(
    outputs: Sequence[Output],
    *,
    overwrite: bool = False,
    job: str = "",
    progress: Progress | None = None,
    describe: Callable[[Output, Sequence[Written]], str] | None = None,
) -> tuple[Written, ...]:
    """Write several models, all of them or none.

    Args:
        outputs: The models.
        overwrite: Whether existing files may be replaced.
        job: A text that identifies what is written, such as digests of the sources and of the plan. If a killed process
            with the same text finished shards, they are used again.
        progress: A function to call before every tensor.
        describe: A function that returns the text of the manifest, a JSON file beside each output that says how it was
            made; None for no manifests.

    Returns:
        The files, in the order of the outputs; of each the shards first, the index last. Manifests are not among them.

    Raises:
        FileError: A file cannot be written; existing files are unchanged.
    """
    paths = [
        path for output in outputs for path in (*output.paths(), *([manifest_of(output.path)] if describe else ()))
    ]
    jobs = [output.job() for output in outputs]
    whole = hashlib.sha256(json.dumps([job, *jobs]).encode()).hexdigest() if any(jobs) else ""
    superseded = [path for output in outputs for path in output.superseded()]
    written: list[Written] = []
    with replacing_all(paths, overwrite=overwrite, job=whole) as temporaries:
        waiting = iter(temporaries)
        for output in outputs:
            made = output.write([next(waiting) for _ in output.paths()], progress)
            written += made
            if describe:
                next(waiting).write_text(describe(output, made), encoding="utf-8")
    for path in superseded:
        if path not in paths:
            path.unlink(missing_ok=True)
    return tuple(written)


MANIFEST = ".manifest.json"
"""The end of the name of a manifest, after the name of its output."""


def manifest_of(path: Path) -> Path:
    """Return the path of the manifest (a JSON file that says how the output was made) beside an output."""
    return path.with_name(f"{path.name}{MANIFEST}")


def _shard(
    temporary: Path,
    path: Path,
    kind: str,
    tensors: tuple[TensorRef, ...],
    read: Reader,
    checks: Checks,
    progress: Progress | None,
) -> Written:
    """Write a shard, unless a killed process has already finished it; return its description.

    The arguments are those of `store`: the temporary and the final path, the format, and the tensors of the shard.
    """
    made = _finished(path, tensors, temporary)
    if made is None:
        made = store(temporary, path, kind, tensors, read, checks, progress)
        _finish(made, temporary)
    return made


def _finish(written: Written, temporary: Path) -> None:
    """Write a marker file with digests beside a complete shard, for a later process that resumes the job."""
    note = {"size": written.file.size, "sha256": written.file.sha256, "md5": written.file.md5}
    text = json.dumps(note | {"checksums": dict(written.checksums), "locations": dict(written.locations)})
    note_path = temporary.with_name(temporary.name + _FINISHED)
    note_path.write_text(text, encoding="utf-8")
    private_folders.synchronise(note_path)


def _finished(path: Path, tensors: tuple[TensorRef, ...], temporary: Path) -> Written | None:
    """Return the description of a shard that a killed process completed; None if it is missing, incomplete or changed.

    Args:
        path: The final path of the shard.
        tensors: The tensors of the shard.
        temporary: The temporary path of the shard, beside which a marker file has the digests.
    """
    note_path = temporary.with_name(temporary.name + _FINISHED)
    try:
        note = json.loads(note_path.read_text(encoding="utf-8"))
        found = replace(digest(temporary), path=str(path))
        if (note["size"], note["sha256"], note["md5"]) != (found.size, found.sha256, found.md5):
            return None
        checksums = {str(name): int(value) for name, value in note["checksums"].items()}
        locations = {str(name): str(value) for name, value in note["locations"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Written(file=found, tensors=tensors, checksums=checksums, locations=locations)


def _check_names(tensors: Sequence[TensorRef], destination: Path) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.path in seen:
            raise FileError(f"{destination} is not written, because two tensors have the name {tensor.path!r}")
        seen.add(tensor.path)
        try:
            tensor.path.encode()
        except UnicodeEncodeError:
            raise FileError(
                f"{destination}: the name {tensor.path!r} is not valid Unicode, so it cannot be written to a file"
            ) from None
