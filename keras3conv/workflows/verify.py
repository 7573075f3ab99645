"""Implement `keras3conv.verify`: compare the files that `transfer` wrote with the manifest beside them.

For files that `convert` wrote, the `metadata.json` of their folder is used in place of a manifest.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras3conv import formats
from keras3conv.errors import FileError, Problem, first_of, printable
from keras3conv.formats.safe.streaming import checksum
from keras3conv.messages import count
from keras3conv.report.report import Report, current_environment
from keras3conv.report.values import Section, Table
from keras3conv.workflows import metadata
from keras3conv.workflows.manifest import read_manifest


def verify(path: Path) -> Report:
    """Compare the files that `transfer` or `convert` wrote with the digests beside them; return the report.

    Args:
        path: A file, the index of shards, a manifest, or the folder of a conversion.
    """
    if found := _metadata_of(path):
        return _verify_conversion(found, path)
    manifest, content = read_manifest(path)
    try:
        files, tensors = _files(manifest, content), _tensors(manifest, content)
        name, source = content["files"][-1]["path"], content["source"]["files"]
        notes = (*_unconfirmed_note(content.get("plan", {})), *map(_source_note, source))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise FileError(
            f"{manifest} is damaged: an entry is missing or has a wrong type: {type(error).__name__} {error}"
        ) from error
    return Report(
        title=f"Verification: {name}",
        sections=(files, tensors),
        files=tuple(
            formats.WrittenFile(path=str(_beside(manifest, file["path"])), **{key: file[key] for key in _KEYS})
            for file in content["files"]
        ),
        environment=current_environment(),
        notes=(*notes, _no_forgery(manifest)),
    )


def _unconfirmed_note(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a note that the file was written by a plan with unconfirmed pairs of layers; () if there were none."""
    number = plan.get("unconfirmed", 0)
    note = (
        f"the transfer that wrote this followed a plan in which no run confirmed {number} of {plan.get('pairs')} pairs"
    )
    return (note,) if number else ()


def _source_note(file: Mapping[str, Any]) -> str:
    """Return a note on a source file that a manifest names: "source net.pt, state dict ema: sha256 ..., md5 ..."."""
    entry = f", state dict {file['entry']}" if file.get("entry") else ""
    return f"source {file['path']}{entry}: sha256 {file['sha256']}, md5 {file['md5']}"


_KEYS = ("size", "sha256", "md5")

_SHOWN = 10
"""The number of names of files without a digest that the report lists."""


def _metadata_of(path: Path) -> Path | None:
    """Return the `metadata.json` that states the digests of a folder or file; None for a file with a manifest.

    Raises:
        FileError: A folder has no `metadata.json`.
    """
    if path.is_dir():
        if not (path / metadata.NAME).is_file():
            raise FileError(_folder_without_metadata(path))
        return path / metadata.NAME
    if path.name.endswith(formats.MANIFEST) or formats.manifest_of(path).exists():
        return None
    found = path.with_name(metadata.NAME)
    return found if found.is_file() else None


def _folder_without_metadata(folder: Path) -> str:
    """Return the error message for a folder that `convert` did not write, with the files that can be verified in it."""
    manifests = sorted(file for file in folder.iterdir() if file.name.endswith(formats.MANIFEST))
    fixes = "     or     ".join(f"keras3conv verify {file}" for file in manifests[:2])
    return (
        f"the folder {folder} cannot be verified, because it has no {metadata.NAME}, which convert writes. A file that "
        f"transfer wrote is verified alone, with its manifest beside it: NAME{formats.MANIFEST}"
        + (f"\nFix:  {fixes}" if fixes else "")
    )


def _verify_conversion(record: Path, path: Path) -> Report:
    """Return a report on the files that `convert` wrote: all of them, or a single one.

    Args:
        record: The `metadata.json`.
        path: The folder or the `metadata.json`, for all files; else a file in the folder.

    Raises:
        FileError: The file is not one that `convert` wrote.
    """
    stated = metadata.read_digests(record)
    is_whole = path.is_dir() or path.name == record.name
    if not is_whole and path.name not in stated:
        raise FileError(f"{path} cannot be verified: {record} states the digests of {', '.join(stated) or 'no file'}")
    names = [*stated] if is_whole else [path.name]
    section = _files(record, {"files": [{"path": name, "sha256": stated[name]} for name in names]}, keys=("sha256",))
    others = _not_covered(record, stated) if is_whole else ""
    if others:
        section = replace(section, summary=f"{section.summary}; not compared: {others}")
    existing = [beside for name in names if (beside := _beside(record, name)).is_file()]
    return Report(
        title=f"Verification: {record.absolute().parent.name if is_whole else path.name}",
        sections=(section,),
        files=tuple(map(formats.digest, existing)),
        environment=current_environment(),
        notes=(_no_forgery(record),),
    )


def _no_forgery(record: Path) -> str:
    """Return a note for the report: a comparison with digests in the same folder detects accidents, not forgery.

    Args:
        record: The manifest or the `metadata.json`.
    """
    return (
        f"this finds accidents, not forgery: whoever changes a file can change {record.name}, too. Compare the sha256 "
        f"of {record.name} with one that the author gives elsewhere; here it is {formats.digest(record).sha256}"
    )


def _not_covered(record: Path, stated: Collection[str]) -> str:
    """Return the names of the files beside `metadata.json` whose digests it does not state; empty if there are none.

    Args:
        record: The `metadata.json`.
        stated: The names of the files whose digests it states.
    """
    beside = sorted(path.name for path in record.parent.iterdir() if path.is_file() and path.name != record.name)
    others = [name for name in beside if name not in stated]
    return first_of(list(map(printable, others)), _SHOWN)


def _beside(manifest: Path, name: str) -> Path:
    """Return the path of the file `name` in the folder of a manifest or `metadata.json`.

    Raises:
        FileError: The name is that of a file in another folder.
    """
    if Path(name).name != name or "\0" in name or "\\" in name:
        raise FileError(
            f"{manifest} names the file {name!r}, which is not a plain file name in the folder of the manifest"
        )
    return manifest.with_name(name)


def _files(manifest: Path, content: Mapping[str, Any], keys: Sequence[str] = _KEYS) -> Section:
    """Compare the size and the digests of every file with the manifest; return the section of the report.

    Args:
        manifest: The path of the manifest.
        content: The content of the manifest.
        keys: The facts that the manifest states about each file: "size", "sha256".
    """
    rows, problems = [], []
    for file in content["files"]:
        path = _beside(manifest, file["path"])
        state = "passed"
        try:
            found = formats.digest(path)
        except OSError as error:
            state = "failed"
            problems.append(Problem(fact=f"{path} cannot be read: {error.strerror}"))
        else:
            for key in keys:
                if getattr(found, key) != file[key]:
                    state = "failed"
                    problems.append(
                        Problem(fact=f"the {key} of {path} is {getattr(found, key)}, but was {file[key]} when written")
                    )
        rows.append((file["path"], *(file[key] for key in keys), state))
    return Section(
        name="files",
        status="failed" if problems else "passed",
        claim="Every file has the bytes that were written.",
        summary=f"{count(len(rows), 'file')}, {count(len(problems), 'difference')}",
        tables=(Table(title="files", columns=("file", *keys, "state"), rows=tuple(rows)),),
        problems=tuple(problems),
    )


def _tensors(manifest: Path, content: Mapping[str, Any]) -> Section:
    """Compare every tensor with the manifest, so that the report names the damaged tensors; return the section."""
    entries = content["tensors"]
    problems = list(_differing(_beside(manifest, content["files"][-1]["path"]), entries))
    return Section(
        name="tensors",
        status="failed" if problems else "passed",
        claim="Every tensor has the name, the shape, the dtype and the values that were written.",
        summary=f"{count(len(entries), 'tensor')}, {count(len(problems), 'difference')}",
        problems=tuple(problems),
    )


def _differing(path: Path, wanted: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    try:
        view = formats.read_stored(path)
    except FileError as error:
        yield Problem(fact=f"{path} cannot be read: {error}")
        return
    found = {tensor.location or tensor.path: tensor for tensor in view.tensors()}
    for entry in wanted:
        tensor = found.get(entry["location"])
        if tensor is None:
            yield Problem(fact=f"the tensor {entry['name']} is missing in {path.name}")
        elif (tensor.dtype, list(tensor.shape)) != (entry["dtype"], entry["shape"]):
            now = f"{tensor.dtype} {tensor.shape}"
            yield Problem(
                fact=f"the tensor {entry['name']} is {now}, but {entry['dtype']} {tuple(entry['shape'])} was written"
            )
        else:
            try:
                values = f"{checksum(view.read(tensor.path)):08x}"
            except FileError as error:
                yield Problem(fact=f"the tensor {entry['name']} cannot be read: {error}")
                continue
            if values != entry["crc32"]:
                yield Problem(fact=f"the tensor {entry['name']} has different values than those that were written")
