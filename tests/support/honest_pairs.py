"""Draw random pairs of equal small models, and change one thing in one of them.

Both models are written by hand for each kind of block, without the rules of the library: a wrong rule cannot hide.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

WIDTH, STEPS, SIDE, WORDS = 4, 5, 6, 9

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Block:
    """One block of both models.

    Attributes:
        kind: The kind, a key of `KINDS`.
        settings: The settings of this block.
    """

    kind: str
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A kind of block.

    Attributes:
        torch: Makes the torch module.
        keras: Makes a function of a Keras tensor, from the settings and a prefix of the names of its layers.
        draw: The values of each setting.
        wrong: For each setting the values that give another function of the same shape.
    """

    torch: Callable[[Settings], nn.Module]
    keras: Callable[[Settings, str], Callable[[Any], Any]]
    draw: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    wrong: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


class Call(nn.Module):
    """A module that calls a function and holds its submodules."""

    def __init__(self, function: Callable[..., torch.Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.parts)


ACTIVATIONS: Mapping[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[Any], Any]]] = {
    "relu": (F.relu, ops.relu),
    "tanh": (torch.tanh, ops.tanh),
    "sigmoid": (torch.sigmoid, ops.sigmoid),
    "gelu": (F.gelu, lambda x: ops.gelu(x, approximate=False)),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), lambda x: ops.gelu(x, approximate=True)),
    "silu": (F.silu, ops.silu),
    "elu": (F.elu, ops.elu),
    "selu": (F.selu, ops.selu),
    "softplus": (F.softplus, ops.softplus),
    "mish": (F.mish, lambda x: x * ops.tanh(ops.softplus(x))),
    "hard swish": (F.hardswish, ops.hard_silu),
    "leaky 0.01": (lambda x: F.leaky_relu(x, 0.01), lambda x: ops.leaky_relu(x, negative_slope=0.01)),
    "leaky 0.2": (lambda x: F.leaky_relu(x, 0.2), lambda x: ops.leaky_relu(x, negative_slope=0.2)),
    "relu6": (F.relu6, ops.relu6),
}

_EPSILONS = {"epsilon": (1e-5, 1e-3, 1e-6)}
_WRONG_EPSILONS = {"epsilon": (1e-5, 1e-3, 1e-6, 1e-2)}
_EVERY_ACTIVATION = {"function": tuple(ACTIVATIONS)}


def _attention(settings: Settings) -> nn.Module:
    def run(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        mask = torch.ones(STEPS, STEPS, dtype=torch.bool).triu(1) if settings["causal"] else None
        made: torch.Tensor = layer(x, x, x, attn_mask=mask, need_weights=False)[0]
        return made

    return Call(run, nn.MultiheadAttention(WIDTH, settings["heads"], batch_first=True))


def _keras_attention(settings: Settings, name: str) -> Callable[[Any], Any]:
    layer = layers.MultiHeadAttention(settings["heads"], WIDTH // settings["heads"], name=name)
    return lambda x: layer(x, x, use_causal_mask=settings["causal"])


def _recurrent(settings: Settings) -> nn.Module:
    cell = {"lstm": nn.LSTM, "gru": nn.GRU}[settings["cell"]]

    def run(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        flipped = x.flip(1) if settings["backwards"] else x
        made: torch.Tensor = layer(flipped)[0]
        return made

    return Call(run, cell(WIDTH, WIDTH, batch_first=True))


def _keras_recurrent(settings: Settings, name: str) -> Callable[[Any], Any]:
    made = {"lstm": layers.LSTM, "gru": layers.GRU}[settings["cell"]]
    return made(
        WIDTH,
        return_sequences=True,
        go_backwards=settings["backwards"],
        activation=settings["activation"],
        recurrent_activation=settings["gate"],
        name=name,
    )


def _convolution(settings: Settings) -> nn.Module:
    padding = settings["dilation"]
    return nn.Conv2d(WIDTH, WIDTH, 3, padding=padding, dilation=padding, groups=settings["groups"])


def _keras_convolution(settings: Settings, name: str) -> Callable[[Any], Any]:
    shift, dilation = settings["shift"], settings["dilation"]
    pad = layers.ZeroPadding2D(((dilation - shift, dilation + shift), (dilation, dilation)))
    layer = layers.Conv2D(WIDTH, 3, dilation_rate=dilation, groups=settings["groups"], name=name)
    return lambda x: layer(pad(x))


def _pool(settings: Settings) -> nn.Module:
    kinds = {"max": nn.MaxPool2d(3, 1, 1), "average": nn.AvgPool2d(3, 1, 1, count_include_pad=False)}
    return kinds[settings["kind"]] if settings["kind"] in kinds else nn.AvgPool2d(3, 1, 1)


def _keras_pool(settings: Settings, name: str) -> Callable[[Any], Any]:
    kinds = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}
    if settings["kind"] in kinds:
        layer: Callable[[Any], Any] = kinds[settings["kind"]](3, 1, padding="same", name=name)
        return layer
    pad, pool = layers.ZeroPadding2D(1), layers.AveragePooling2D(3, 1, name=name)
    return lambda x: pool(pad(x))


def _shortcut(settings: Settings) -> nn.Module:
    return Call(lambda x, inner: settings["scale"] * x + torch.tanh(inner(x)), nn.Linear(WIDTH, WIDTH))


def _keras_shortcut(settings: Settings, name: str) -> Callable[[Any], Any]:
    inner = layers.Dense(WIDTH, name=name)
    return lambda x: settings["scale"] * x + ops.tanh(inner(x))


def _joined(settings: Settings) -> nn.Module:
    return Call(
        lambda x, inner, outer: outer(torch.cat([x, inner(x)] if settings["first"] else [inner(x), x], -1)),
        nn.Linear(WIDTH, 3),
        nn.Linear(WIDTH + 3, WIDTH),
    )


def _keras_joined(settings: Settings, name: str) -> Callable[[Any], Any]:
    inner, outer = layers.Dense(3, name=f"{name}a"), layers.Dense(WIDTH, name=f"{name}b")
    return lambda x: outer(ops.concatenate([x, inner(x)] if settings["first"] else [inner(x), x], axis=-1))


def _activation(settings: Settings) -> nn.Module:
    return Call(ACTIVATIONS[settings["function"]][0])


def _layer_norm(settings: Settings) -> nn.Module:
    return nn.LayerNorm(WIDTH, eps=settings["epsilon"])


KINDS: Mapping[str, Kind] = {
    "dense": Kind(
        lambda s: nn.Linear(WIDTH, WIDTH, bias=s["bias"]),
        lambda s, n: layers.Dense(WIDTH, use_bias=s["bias"], name=n),
        {"bias": (True, False)},
    ),
    "activation": Kind(_activation, lambda s, n: ACTIVATIONS[s["function"]][1], _EVERY_ACTIVATION, _EVERY_ACTIVATION),
    "softmax": Kind(
        lambda s: nn.Softmax(s["axis"]), lambda s, n: layers.Softmax(s["axis"], name=n), {"axis": (-1,)}, {"axis": ()}
    ),
    "layer norm": Kind(
        _layer_norm, lambda s, n: layers.LayerNormalization(epsilon=s["epsilon"], name=n), _EPSILONS, _WRONG_EPSILONS
    ),
    "shortcut": Kind(_shortcut, _keras_shortcut, {"scale": (1.0, 0.5)}, {"scale": (1.0, 0.5, 0.0, 1.001)}),
    "joined": Kind(_joined, _keras_joined, {"first": (True, False)}, {"first": (True, False)}),
    "batch norm": Kind(
        lambda s: Call(lambda x, n: n(x), nn.BatchNorm1d(WIDTH, eps=s["epsilon"])),
        lambda s, n: layers.BatchNormalization(epsilon=s["epsilon"], name=n),
        _EPSILONS,
        _WRONG_EPSILONS,
    ),
    "attention": Kind(
        _attention, _keras_attention, {"heads": (2,), "causal": (True, False)}, {"causal": (True, False)}
    ),
    "recurrent": Kind(
        _recurrent,
        _keras_recurrent,
        {"cell": ("lstm", "gru"), "backwards": (True, False), "activation": ("tanh",), "gate": ("sigmoid",)},
        {"backwards": (True, False), "activation": ("relu",), "gate": ("hard_sigmoid",)},
    ),
    "convolution": Kind(
        _convolution,
        _keras_convolution,
        {"groups": (1, 2), "dilation": (1, 2), "shift": (0,)},
        {"dilation": (1, 2), "shift": (1,)},
    ),
    "image norm": Kind(
        lambda s: nn.BatchNorm2d(WIDTH, eps=s["epsilon"]),
        lambda s, n: layers.BatchNormalization(epsilon=s["epsilon"], name=n),
        _EPSILONS,
        _WRONG_EPSILONS,
    ),
    "group norm": Kind(
        lambda s: nn.GroupNorm(s["groups"], WIDTH, eps=s["epsilon"]),
        lambda s, n: layers.GroupNormalization(s["groups"], epsilon=s["epsilon"], name=n),
        {**_EPSILONS, "groups": (1, 2)},
        {**_WRONG_EPSILONS, "groups": (1, 2, 4)},
    ),
    "words": Kind(
        lambda s: nn.Embedding(WORDS, WIDTH),
        lambda s, n: layers.Embedding(WORDS, WIDTH, mask_zero=s["mask"], name=n),
        {"mask": (True, False)},
        {"mask": (True, False)},
    ),
    "pool": Kind(_pool, _keras_pool, {"kind": ("max", "average", "padded")}, {"kind": ("max", "average", "padded")}),
}

DOMAINS: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "vector": ((WIDTH,), ("dense", "activation", "softmax", "layer norm", "shortcut", "joined", "batch norm")),
    "sequence": ((STEPS, WIDTH), ("dense", "activation", "layer norm", "shortcut", "attention", "recurrent", "joined")),
    "words": ((STEPS,), ("dense", "layer norm")),
    "image": ((WIDTH, SIDE, SIDE), ("convolution", "activation", "image norm", "group norm", "pool")),
}
"""For each domain the shape of one torch input, and the kinds of blocks."""


class Text(nn.Module):
    """Words, blocks, and the mean over the steps; over those without padding, if the embedding masks it."""

    def __init__(self, parts: Sequence[nn.Module], settings: Settings) -> None:
        super().__init__()
        self.words, self.blocks, self.mask = parts[0], nn.Sequential(*parts[1:]), settings["mask"]
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.words(words))
        counted = ((words != 0) | (not self.mask)).to(x.dtype).unsqueeze(-1)
        made: torch.Tensor = self.head((x * counted).sum(1) / counted.sum(1))
        return made


@dataclass(frozen=True)
class Spec:
    """A model: its domain, its blocks, its last layers, and whether Keras takes images of any size."""

    domain: str
    blocks: tuple[Block, ...]
    flat: bool = False
    resizable: bool = False

    def torch_module(self) -> nn.Module:
        """Return the torch module with random weights."""
        shape = DOMAINS[self.domain][0]
        if self.domain == "words":
            return Text([KINDS[block.kind].torch(block.settings) for block in self.blocks], self.blocks[0].settings)
        head: list[nn.Module] = [nn.Linear(int(np.prod(shape)) if self.flat else WIDTH, 3)]
        if self.flat:
            head.insert(0, nn.Flatten())
        elif self.domain == "image":
            head.insert(0, Call(lambda x: x.mean((2, 3))))
        return nn.Sequential(*(KINDS[block.kind].torch(block.settings) for block in self.blocks), *head)

    def keras_model(self) -> keras.Model:
        """Return the Keras model; its layers have names by their position."""
        shape: tuple[int | None, ...] = DOMAINS[self.domain][0]
        dtype = "int32" if self.domain == "words" else "float32"
        if self.domain == "image":
            shape = (None, None, shape[0]) if self.resizable else (*shape[1:], shape[0])
        x = given = keras.Input(shape, dtype=dtype)
        for place, block in enumerate(self.blocks):
            x = KINDS[block.kind].keras(block.settings, f"b{place}")(x)
        if self.flat:
            x = layers.Flatten()(x)
        elif self.domain == "words":
            x = layers.GlobalAveragePooling1D()(x)
        elif self.domain == "image":
            x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(given, layers.Dense(3, name="head")(x))

    def inputs(self, generator: np.random.Generator) -> torch.Tensor:
        """Return two random samples for the torch module; words end in padding."""
        if self.domain == "words":
            words = generator.integers(1, WORDS, (2, STEPS))
            words[0, 3:] = 0
            return torch.tensor(words)
        return torch.tensor(generator.standard_normal((2, *DOMAINS[self.domain][0])), dtype=torch.float32)


def drawn(generator: np.random.Generator) -> Spec:
    """Return a random model of one to three blocks, of which the first has weights."""
    domain = str(generator.choice(list(DOMAINS)))
    return replace(_drawn(domain, generator), flat=domain != "words" and bool(generator.integers(2)))


def drawn_for_any_size(generator: np.random.Generator) -> Spec:
    """Return a random model of images of any size."""
    return replace(_drawn("image", generator), resizable=True)


def _drawn(domain: str, generator: np.random.Generator) -> Spec:
    kinds = DOMAINS[domain][1]
    first = {"vector": "dense", "sequence": "dense", "image": "convolution", "words": "words"}[domain]
    chosen = [first, *map(str, generator.choice(kinds, int(generator.integers(1, 3))))]
    blocks = [_drawn_block(kind, generator) for kind in chosen]
    return Spec(domain, tuple(blocks))


def _drawn_block(kind: str, generator: np.random.Generator) -> Block:
    settings = {name: values[int(generator.integers(len(values)))] for name, values in KINDS[kind].draw.items()}
    return Block(kind, settings)


def changes(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """Yield every change of one setting and every swap of two adjacent blocks, each with its name."""
    for place, block in enumerate(spec.blocks):
        for name, values in KINDS[block.kind].wrong.items():
            for value in values:
                if value != block.settings[name]:
                    other = Block(block.kind, {**block.settings, name: value})
                    blocks = (*spec.blocks[:place], other, *spec.blocks[place + 1 :])
                    yield f"{block.kind}: {name} {block.settings[name]} -> {value}", replace(spec, blocks=blocks)
        if not _has_weights(block):
            blocks = (*spec.blocks[:place], *spec.blocks[place + 1 :])
            yield f"{block.kind} left out", replace(spec, blocks=blocks)
    for place, (first, second) in enumerate(pairwise(spec.blocks)):
        # The weights are set in the order of the layers, so only one of the two may have some.
        if first.kind != "words" and first != second and not (_has_weights(first) and _has_weights(second)):
            blocks = (*spec.blocks[:place], second, first, *spec.blocks[place + 2 :])
            yield f"{first.kind} and {second.kind} exchanged", replace(spec, blocks=blocks)


def _has_weights(block: Block) -> bool:
    return block.kind not in ("activation", "softmax", "pool")
