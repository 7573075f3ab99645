"""State which files a model was read from: their digests, and the state dict of a checkpoint that was read."""

from collections.abc import Iterable
from pathlib import Path

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.formats.safe.source import Source
from keras3conv.formats.shards import weight_map_files
from keras3conv.formats.tensorflow import bundle
from keras3conv.model.views import ModelView
from keras3conv.writing.digests import ReadFile, digest


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that a model consists of: the file itself, or an index and all files that it lists."""
    path = formats.file_of(path)
    if path.name.lower().endswith(bundle.INDEX):
        return (path, *(shard.path for shard in bundle.opened(Source.pin(path)).shards.values()))
    if not path.name.lower().endswith((".index.json", ".weights.json")):
        return (path,)
    return (path, *(path.with_name(name) for name in weight_map_files(Source.pin(path))))


def read_file(path: Path, entry: str = "") -> ReadFile:
    """Return a file with its digests, without its folder.

    Args:
        path: The file.
        entry: The full name of the state dict that was read.
    """
    return ReadFile(**{**vars(digest(path)), "path": path.name}, entry=entry)


def weights_read(path: Path, entry: str = "", planned: ModelView | None = None) -> tuple[ReadFile, ...]:
    """Return the files of weights with their digests, and the full name of the state dict that is read from them.

    Args:
        path: The file, or the index of several.
        entry: The state dict that was asked for, if a torch checkpoint holds several.
        planned: The torch tensors in a plan, whose state dict is read if none was asked for.
    """
    files = files_of(path)
    name = formats.read(path, entry=entry, planned=planned).state_dict if formats.side_of(path) == "torch" else ""
    return tuple(read_file(file, name) for file in files)


def other_state_dict(plan: Alignment | None, names: Iterable[str]) -> tuple[str, ...]:
    """Return a note for a report if the torch weights are from another state dict than that of the plan.

    Args:
        plan: The plan; None if there was none.
        names: The names of the state dicts that were read; empty ones do not count.
    """
    planned = "" if plan is None else plan.torch.state_dict
    others = [name for name in names if planned and name and name != planned]
    return tuple(f"the plan was made for the state dict {planned}, and {name} was read" for name in others[:1])


__all__ = ["files_of", "other_state_dict", "read_file", "weights_read"]
