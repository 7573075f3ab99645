"""Load an architecture (.json) with its weights; list the files that a model was read from, with their digests."""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from threading import Event

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import InputError
from keras3conv.formats.safe.source import Source
from keras3conv.formats.shards import weight_map_files
from keras3conv.formats.tensorflow import bundle
from keras3conv.frameworks.adapter import Model
from keras3conv.frameworks.sides import require_architecture, resolve
from keras3conv.writing.digests import ReadFile, digest


def with_weights(
    model: Model, weights: str | PathLike[str] | None, *, needed: str = 'keras_weights="model.weights.h5"'
) -> tuple[Model, tuple[Path, ...]]:
    """Return the live model of a Keras architecture (.json), and the files it was made of; any other model unchanged.

    Args:
        model: The model, a file, or an architecture.
        weights: The file of weights of the architecture; None to leave the initial weights.
        needed: The argument to suggest if there are no weights; empty if initial weights are enough.

    Raises:
        InputError: The architecture has no weights although they are needed, or weights are given for another model.
    """
    require_architecture(model, weights)
    if not formats.is_architecture(model):
        return model, ()
    require_weights(model, weights, needed)
    path = None if weights is None else Path(weights)
    files = (Path(model),) if path is None else (Path(model), *files_of(path))
    return resolve(model, keras_weights=path).source, files


def ends_of_transfer(
    source: Model, target: Model, out: Sequence[Path], weights: str | PathLike[str] | None
) -> tuple[Model, Model, tuple[ReadFile, ...]]:
    """Return the source and the target of a transfer, an architecture as a live model, and the files of the source.

    Args:
        source: The model to read, a file, or an architecture, which needs its weights.
        target: The model or file to write, or an architecture, whose model is saved to `out`.
        out: The files to which the target will be saved.
        weights: The file of weights of the architecture.

    Raises:
        InputError: The architecture has no weights, or `out` names no file for its model.
    """
    if not formats.is_architecture(target):
        source, read = with_weights(source, weights)
        return source, target, tuple(map(read_file, read))
    if not out:
        raise InputError(
            f'{target} is an architecture, so its model needs a file to be saved to\nFix:  out="model.weights.h5"'
        )
    return source, with_weights(target, weights, needed="")[0], ()


def require_weights(architecture: str | PathLike[str], weights: object, needed: str) -> None:
    """Raise `InputError` if an architecture is given without weights although they are needed.

    Args:
        architecture: The `.json`.
        weights: The file of weights; None if there is none.
        needed: The argument or call to suggest; empty if initial weights are enough.
    """
    if weights is None and needed:
        raise InputError(
            f"{architecture} contains an architecture without weights, so a file of weights is needed, too\n"
            f"Fix:  {needed}"
        )


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that a model consists of: the file itself, or an index and all files that it lists."""
    path = formats.file_of(path)
    if path.name.lower().endswith(bundle.INDEX):
        return (path, *(shard.path for shard in bundle.opened(Source.pin(path)).shards.values()))
    if not path.name.lower().endswith((".index.json", ".weights.json")):
        return (path,)
    return (path, *(path.with_name(name) for name in weight_map_files(Source.pin(path))))


def read_file(path: Path, entry: str = "", stopped: Event | None = None) -> ReadFile:
    """Return a file with its digests, without its folder.

    Args:
        path: The file.
        entry: The full name of the state dict that was read.
        stopped: An event that another thread sets if the result is no longer needed; see `digest`.
    """
    return ReadFile(**{**vars(digest(path, stopped)), "path": path.name}, entry=entry)


def weights_read(path: Path, entry: str = "") -> tuple[ReadFile, ...]:
    """Return the files of weights with their digests, and the full name of the state dict that is read from them.

    Args:
        path: The file, or the index of several.
        entry: The state dict that was asked for, if a torch checkpoint holds several.
    """
    files = files_of(path)
    name = formats.read(path, entry=entry).state_dict if formats.side_of(path) == "torch" else ""
    return tuple(read_file(file, name) for file in files)


def other_state_dict(plan: Alignment | None, names: Iterable[str]) -> tuple[str, ...]:
    """Return a note for a report if the torch weights are from another state dict than that of the plan.

    Args:
        plan: The plan (the pairs of tensors); None if there was none.
        names: The names of the state dicts that were read; empty ones do not count.
    """
    planned = "" if plan is None else plan.torch.state_dict
    others = [name for name in names if planned and name and name != planned]
    return tuple(f"the plan was made for the state dict {planned}, and {name} was read" for name in others[:1])
