"""Read a model in several torch checkpoints (shards) with an index that maps tensors to files."""

from keras3conv.errors import FileError, IncompleteCheckpoint, listed, quoted
from keras3conv.formats.safe.shards import shard_path
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safetensors.index import read_weight_map
from keras3conv.formats.torch import checkpoint
from keras3conv.formats.torch.names import layers_of
from keras3conv.model.views import ModelView
from keras3conv.transforms import Array


def read(source: Source) -> ModelView:
    """Return a view of the model in all shards of an index; raise a `FileError` if a shard lacks a listed tensor."""
    weight_map, _ = read_weight_map(source, ".bin")
    shards = {
        name: checkpoint.read(Source.pin(shard_path(source, name))) for name in dict.fromkeys(weight_map.values())
    }
    held = {(name, tensor.path): tensor for name, view in shards.items() for tensor in view.tensors()}
    if missing := [f"{key} (in {name})" for key, name in weight_map.items() if (name, key) not in held]:
        raise IncompleteCheckpoint(
            f"{source.path}: the shards lack tensors that the index lists: {listed(missing)}; download them again"
        )

    def reader(path: str) -> Array:
        if path not in weight_map:
            raise FileError(f"{source.path} has no tensor {quoted(path)}")
        return shards[weight_map[path]].read(path)

    return ModelView(
        side="torch",
        name=source.path.name,
        layers=layers_of(held[name, key] for key, name in weight_map.items()),
        reader=reader,
        origin=str(source.path),
        facts={"format": f"torch checkpoint in {len(shards)} shards"},
    )
