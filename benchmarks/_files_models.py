"""Define test weights: a .safetensors file, a plan, and the Keras model that other converters would build."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np

from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Axes

KINDS = {2: "o i -> i o", 4: "o i h w -> h w i o", 1: "a -> a"}
"""The transform of a weight by its number of axes: a Dense, a Conv2D, a vector."""


@dataclass(frozen=True)
class Fixture:
    """A list of weights, each in a separate layer."""

    name: str
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """The size of the weights in bytes."""
        return 4 * sum(map(prod, self.shapes))

    def save(self, path: Path) -> None:
        """Write a file of random weights."""
        generator = np.random.default_rng(0)
        with _started(path, self.shapes) as file:
            for shape in self.shapes:
                file.write(generator.random(shape, np.float32).data)

    def save_sparse(self, path: Path, first: int = 0) -> None:
        """Write a file of zeros that takes no space on the disk; `first` is the number of the first layer."""
        with _started(path, self.shapes, first) as file:
            file.truncate(file.tell() + self.size)

    def plan(self) -> Alignment:
        """Return the plan that pairs every weight with the kernel of its Keras layer."""
        torch, keras = (ModelView(side=side, name="net", layers=tuple(self._layers(side))) for side in SIDES)
        pairs = tuple(
            Pair(
                torch=f"layers.{place}",
                keras=f"l{place}",
                rule="torch.nn.Linear <-> keras.layers.Dense",
                weights=(
                    WeightMapping(
                        torch=(f"layers.{place}.weight",),
                        keras=(f"l{place}/kernel",),
                        transform=Axes(KINDS[len(shape)]),
                    ),
                ),
                evidence=(Evidence(kind="by hand"),),
            )
            for place, shape in enumerate(self.shapes)
        )
        return Alignment(pairs=pairs, ignored=(), torch=torch, keras=keras)

    def _layers(self, side: str) -> Iterator[LayerView]:
        for place, shape in enumerate(self.shapes):
            layer, role = (f"layers.{place}", "weight") if side == "torch" else (f"l{place}", "kernel")
            path = f"{layer}.{role}" if side == "torch" else f"{layer}/{role}"
            # Keras numbers the layers of a class: dense, dense_1, ...
            group = f"layers/dense_{place}" if place else "layers/dense"
            turned = Axes(KINDS[len(shape)]).shapes((shape,))[0] if side == "keras" else shape
            location = f"{group}/vars/0" if side == "keras" else path
            tensor = TensorRef(path=path, role=role, shape=turned, dtype="float32", location=location)
            yield LayerView(path=layer, tensors=(tensor,))

    def keras_model(self) -> Any:
        """Return a Keras model with these weights, as a converter with the model's code builds it."""
        import keras

        inputs, outputs = [], []
        for place, shape in enumerate(self.shapes):
            if len(shape) == 4:
                layer = keras.layers.Conv2D(shape[0], shape[2:], use_bias=False, name=f"l{place}")
                inputs.append(keras.Input((shape[2], shape[3], shape[1])))
            else:
                width = shape[1] if len(shape) == 2 else 1
                layer = keras.layers.Dense(shape[0], use_bias=False, name=f"l{place}")
                inputs.append(keras.Input((width,)))
            outputs.append(layer(inputs[-1]))
        return keras.Model(inputs, outputs)


SIDES: tuple[Any, Any] = ("torch", "keras")


def _started(path: Path, shapes: Sequence[tuple[int, ...]], first: int = 0) -> Any:
    """Open a new .safetensors file and write its header."""
    header, end = {}, 0
    for place, shape in enumerate(shapes):
        start, end = end, end + 4 * prod(shape)
        header[f"layers.{first + place}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    file = path.open("wb")
    file.write(pack("<Q", len(raw)) + raw)
    return file


def _resnet50() -> Iterator[tuple[int, ...]]:
    yield (64, 3, 7, 7)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for _ in range(blocks):
            yield from ((width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1))
            inputs = 4 * width
    yield (1000, 2048)


def _vit_b() -> Iterator[tuple[int, ...]]:
    yield (768, 3, 16, 16)
    for _ in range(12):
        yield from ((2304, 768), (768, 768), (3072, 768), (768, 3072))
    yield (1000, 768)


FIXTURES = (
    Fixture("100 x 1024 x 1024", ((1024, 1024),) * 100),
    Fixture("6 x 4096 x 4096", ((4096, 4096),) * 6),
    Fixture("ResNet-50 and ViT-B", (*_resnet50(), *_vit_b())),
)
