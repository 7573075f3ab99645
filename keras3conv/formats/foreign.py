"""Recognize files and folders of other software by their content, and tell the user how to convert them."""

import re
from collections.abc import Callable, Collection
from pathlib import Path

_MSGPACK = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|\xd9.)[A-Za-z_]", re.DOTALL)
"""A pattern for the start of a msgpack file (Flax): a map whose first key is a text."""

_FILES: tuple[tuple[Callable[[bytes], bool], str, str], ...] = (
    (
        lambda head: head.startswith(b"version https://git-lfs.github.com/spec/"),
        "is a pointer of Git LFS, not the file itself",
        "git lfs pull",
    ),
    (
        lambda head: re.match(rb"\s*<(!doctype html|html|\?xml)", head, re.IGNORECASE) is not None,
        "is a web page: the server sent it in place of the file",
        ": download the file again",
    ),
    (
        lambda head: head.startswith(b"GGUF"),
        "is a GGUF file, whose weights may be quantized",
        ": take the checkpoint of the original model, the safetensors files that it was made of",
    ),
    (
        lambda head: _MSGPACK.match(head) is not None and head[8:9] != b"{",
        "is a msgpack file of Flax",
        "safetensors.flax.save_file(flax.traverse_util.flatten_dict(params, sep='.'), 'model.safetensors')",
    ),
    (
        lambda head: head[257:262] == b"ustar",
        "is a tar archive",
        "tar -xf FILE  # a checkpoint of torch before 0.1.11: load and save it with torch",
    ),
    (
        lambda head: head[:2] == b"\x1f\x8b",
        "is compressed by gzip",
        "gunzip FILE",
    ),
)
"""For each kind of foreign file: a test of the first bytes, a description, and a remedy."""

_FOLDERS: tuple[tuple[Callable[[Collection[str]], bool], str, str], ...] = (
    (
        lambda names: "zero_to_fp32.py" in names or any(name.endswith("_model_states.pt") for name in names),
        "is a checkpoint of DeepSpeed, in parts for each process",
        "python zero_to_fp32.py FOLDER pytorch_model.bin  # the script is in the folder",
    ),
    (
        lambda names: ".metadata" in names or any(name.endswith(".distcp") for name in names),
        "is a checkpoint of torch.distributed.checkpoint",
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt",
    ),
    (
        lambda names: "saved_model.pb" in names or "saved_model.pbtxt" in names,
        "is a SavedModel of TensorFlow without its weights, the file variables/variables.index",
        ": copy the whole folder",
    ),
    (
        lambda names: bool({"_CHECKPOINT_METADATA", "manifest.ocdbt", "_METADATA"} & set(names)),
        "is a checkpoint of Orbax",
        "params = orbax.checkpoint.StandardCheckpointer().restore('FOLDER')  # and save the arrays as safetensors",
    ),
    (
        lambda names: (
            any(re.search(r"\.data-\d{5}-of-\d{5}$", name) for name in names)
            and not any(name.endswith(".index") for name in names)
        ),
        "has values of a checkpoint of TensorFlow, but not its index",
        ": copy the file that ends with .index too",
    ),
)
"""For each kind of foreign folder: a test of the file names in it, a description, and a remedy."""


_ARCHIVES: tuple[tuple[Callable[[Collection[str]], bool], str, str], ...] = (
    (
        lambda names: any("/code/" in name for name in names),
        "is a TorchScript archive, which holds code beside the weights",
        "torch.save(torch.jit.load('FILE').state_dict(), 'weights.pt')  # runs the code of the file",
    ),
    (
        lambda names: bool(names) and all(name.endswith(".npy") for name in names),
        "is an .npz archive of numpy arrays, which does not say which framework they belong to",
        "safetensors.numpy.save_file(dict(numpy.load('FILE')), 'weights.safetensors')  # names as in the state dict",
    ),
)
"""For each kind of foreign zip archive: a test of the member names, a description, and a remedy."""


def archive_message(path: Path, names: Collection[str]) -> str:
    """Return an error message for a zip archive that is not read: its kind, and the code that converts it.

    For a TorchScript archive: "model.pt is a TorchScript archive, ..." and "Fix:  torch.save(torch.jit.load(...". The
    message is empty if the names of the members are not those of a known kind of archive.

    Args:
        path: The path of the archive, which the message repeats.
        names: The names of the members of the archive.
    """
    for is_kind, what, remedy in _ARCHIVES:
        if is_kind(names):
            return f"{path} {what}\nFix:  {remedy.replace('FILE', str(path))}"
    return ""


def file_message(path: Path, head: bytes) -> str:
    """Return an error message for a file of other software, with its format (GGUF, tar, gzip) and a way to convert it.

    The message is empty if the first bytes are not those of a known kind of file.

    Args:
        path: The path of the file, which the message repeats.
        head: The first bytes of the file.
    """
    for is_kind, what, remedy in _FILES:
        if is_kind(head):
            return f"{path} {what}{_remedy(remedy, 'FILE', path)}"
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        return folder_message(path.parent, [path.name])
    return ""


def _remedy(remedy: str, placeholder: str, path: Path) -> str:
    """Return the end of an error message, the command that converts a file: "gunzip FILE" -> "Fix:  gunzip a.gz".

    Args:
        remedy: A command or a line of code: "gunzip FILE". A text that begins with a colon is returned unchanged.
        placeholder: The word in the command that is replaced by the path: "FILE" or "FOLDER".
        path: The path of the file or folder.
    """
    if remedy.startswith(":"):
        return remedy
    return f"\nFix:  {remedy.replace(placeholder, str(path))}"


def folder_message(path: Path, names: Collection[str]) -> str:
    """Return an error message for a folder of other software (DeepSpeed, Orbax), with a way to convert it.

    The message is empty if the file names are not those of a known kind of folder.

    Args:
        path: The path of the folder, which the message repeats.
        names: The names of the files in the folder.
    """
    for is_kind, what, remedy in _FOLDERS:
        if is_kind(names):
            return f"{path} {what}{_remedy(remedy, 'FOLDER', path)}"
    return ""
