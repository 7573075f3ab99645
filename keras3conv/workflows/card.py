"""Create the model card of a converted model from the files that `convert` or `transfer` wrote.

A card repeats the verdict of a certificate (the report of `validate`), so the files must be those that the certificate
was made for: their digests are compared with those in the certificate, in `metadata.json` and in manifests.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from keras3conv import formats
from keras3conv.errors import FileError, InputError
from keras3conv.report.card import Card
from keras3conv.report.digests import named_files
from keras3conv.report.report import Report
from keras3conv.workflows import metadata
from keras3conv.workflows.manifest import read_manifest
from keras3conv.writing.digests import WrittenFile, digest
from keras3conv.writing.outputs import write_text

_WEIGHTS = ("*.safetensors", "*.pt", "*.pth", "*.keras", "*.weights.h5", "*.h5")
"""The patterns of weight files in a folder; the card shows how to load the first one."""

_CODE = ("model.py", "constants.npz")
"""The names of the files besides the weights that the example code on a card uses."""


def make_card(
    model: Path,
    *,
    report: Path | None,
    sources: Sequence[Path],
    licence: str,
    name: str,
    base_model: str,
) -> Card:
    """Return the model card (`Card`) of a folder that `convert` wrote, or of a file of weights.

    Args:
        model: The folder, or the file.
        report: The certificate (the report of `validate`) as JSON; by default `report.json` in the folder.
        sources: The files that the model was made of.
        licence: The licence of the weights.
        name: The name of the model; by default that in `metadata.json`, or else that of the folder or file.
        base_model: The name of the original model on the Hugging Face hub, such as "timm/resnet50.a1_in1k".

    Raises:
        InputError: There is no certificate, or the certificate was made for other files.
        FileError: A file cannot be read.
    """
    if not model.exists():
        raise FileError(f"{model} does not exist: give the folder or file that convert or transfer wrote")
    files = _weights(model)
    path = report or (model if model.is_dir() else model.parent) / "report.json"
    try:
        certificate = Report.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        fix = "Fix:  --report report.json  # which keras3conv validate --report report.json writes"
        raise InputError(f"{path} does not exist, and a card needs the certificate\n{fix}") from error
    except (OSError, UnicodeDecodeError, InputError) as error:
        reason = "it is a folder" if isinstance(error, IsADirectoryError) else error
        raise InputError(f"{path} cannot be read as the JSON report that keras3conv wrote: {reason}") from error
    described = files[0].with_name(metadata.NAME)
    inputs, outputs = metadata.read_signature(described) if described.is_file() else ((), ())
    own_name = metadata.read_name(described) if described.is_file() else ""
    own = _own_code(files[0].with_name("model.py"), certificate)
    card = Card(
        name=name or own_name or model.absolute().stem,
        report=certificate,
        files=tuple(map(_digest, files)),
        code=tuple(_digest(file) for file in (files[0].with_name(name) for name in (*_CODE, *own)) if file.exists()),
        certificate=(_digest(path),) if path.resolve().parent == files[0].resolve().parent else (),
        sources=tuple(map(_digest, sources)),
        licence=licence,
        base_model=base_model,
        has_code=(files[0].parent / "model.py").exists(),
        modules=tuple(own.values()),
        inputs=inputs,
        outputs=outputs,
        verified=_verified(files[0]),
        converted=frozenset(metadata.read_digests(described).values() if described.is_file() else ()),
    )
    _require_certified(card, path, folder=files[0].parent)
    return card


def _own_code(code: Path, certificate: Report) -> dict[str, str]:
    """Return the files of the author that `model.py` imports, with their modules: {"mixer.py": "mixer"}.

    Args:
        code: The path of `model.py`; the result is empty if it does not exist.
        certificate: The certificate, which names the Python files that were read.
    """
    read = {Path(file.path).name for file in certificate.sources}
    try:
        statements = ast.walk(ast.parse(code.read_text(encoding="utf-8"))) if code.is_file() else ()
    except (OSError, SyntaxError, ValueError) as error:
        raise FileError(f"{code} cannot be read as Python code: {error}") from error
    modules = [node.module for node in statements if isinstance(node, ast.ImportFrom) and node.module]
    named = {f"{module.rpartition('.')[2]}.py": module for module in modules}
    return {file: module for file, module in named.items() if file in read}


def absent_code(card: Card, folder: Path) -> tuple[str, ...]:
    """Return the names of the author's files that `model.py` imports, and that are not in the folder of the card."""
    names = (f"{module.rpartition('.')[2]}.py" for module in card.modules)
    return tuple(name for name in names if not (folder / name).exists())


def write_card(card: Card, path: Path, *, overwrite: bool) -> None:
    """Write a card to a file; raise `FileError` if the file exists or cannot be written."""
    from keras3conv.report.html import write_card as to_markdown

    write_text(path, to_markdown(card), overwrite=overwrite)


def _verified(file: Path) -> str:
    """Return the argument of the `verify` command for a file of weights; empty if no digests are beside the file."""
    if formats.manifest_of(file).is_file():
        return file.name
    return "." if file.with_name(metadata.NAME).is_file() else ""


def _weights(model: Path) -> list[Path]:
    if not model.is_dir():
        return [model]
    found = list(dict.fromkeys(file for pattern in _WEIGHTS for file in sorted(model.glob(pattern))))
    if not found:
        raise InputError(f"{model} contains no file of weights; such a file is named {', '.join(_WEIGHTS)}")
    return found


def _require_certified(card: Card, certificate: Path, *, folder: Path) -> None:
    """Raise `InputError` if the digests of the card's files are not those in the certificate, the report of `validate`.

    The certificate must not state another digest for a file of the card; and if it states any digests, that of at least
    one file of the card must be among them. Weights and code that the certificate does not name are compared with the
    `metadata.json` or the manifest in their folder.

    Args:
        card: The model card, with its files.
        certificate: The path of the certificate, for messages.
        folder: The folder of the weights.
    """
    stated = named_files(card.report)
    for file in (*card.files, *card.sources, *card.code):
        _require_equal(file, stated, certificate)
    certified = {sha256 for _, sha256 in stated}
    for file in (*card.files, *card.code):
        for record, digests in _records(folder) if file.sha256 not in certified else ():
            _require_equal(file, digests, record)
    if stated and len(card.unnamed) == len(card.files) and len(card.unread) == len(card.sources):
        names = ", ".join(dict.fromkeys(name for name, _ in stated))
        raise _made_for_others(
            card.files[0].path, f"{certificate} states the digests of {names}, and of no file of this model"
        )


def _require_equal(file: WrittenFile, stated: Sequence[tuple[str, str]], record: Path) -> None:
    """Raise `InputError` if a certificate, manifest or `metadata.json` states another digest for a file.

    Args:
        file: The file with its name and sha256.
        stated: The file names and sha256 that the record states; if the name is not among them, nothing is raised.
        record: The path of the certificate, manifest or `metadata.json`, for the message.
    """
    digests = {sha256 for name, sha256 in stated if name == file.path}
    if digests and file.sha256 not in {sha256 for _, sha256 in stated}:
        raise _made_for_others(
            file.path, f"its sha256 is {file.sha256}, but {record} states {' and '.join(sorted(digests))}"
        )


def _made_for_others(name: str, fact: str) -> InputError:
    return InputError(f"{name} is not the file that this certificate was made for: {fact}")


def _records(folder: Path) -> Iterator[tuple[Path, tuple[tuple[str, str], ...]]]:
    """Yield the path of each `metadata.json` and manifest in a folder, with the file names and sha256 in it."""
    if (path := folder / metadata.NAME).is_file():
        yield path, tuple(metadata.read_digests(path).items())
    for path in sorted(folder.glob("*.manifest.json")):
        _, content = read_manifest(path)
        try:
            yield path, tuple((file["path"], file["sha256"]) for file in content["files"])
        except (KeyError, TypeError) as error:
            raise FileError(
                f"{path} is damaged: an entry is missing or has a wrong type: {type(error).__name__} {error}"
            ) from error


def _digest(path: Path) -> WrittenFile:
    """Return the name, the size and the digests of a file."""
    try:
        return replace(digest(path), path=path.name)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
