"""Activations: same maths, other defaults. Every default is written out."""

from collections.abc import Callable

from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, register
from keras3conv.rules._keras import back, last, one

_EXAMPLES = (Example(config={}, inputs=((3, 5),)), Example(config={}, inputs=((2, 3, 4, 5),)))


def _activation(name: str) -> Callable[[Config], LayerSpecs]:
    return lambda config: (LayerSpec(kind="keras.layers.Activation", config={"activation": name}),)


_NAMED = {"Sigmoid": "sigmoid", "Tanh": "tanh", "SiLU": "silu", "Mish": "mish", "Softsign": "softsign"}

for _torch, _name in _NAMED.items():
    register(
        Rule(
            torch=f"torch.nn.{_torch}",
            keras=f"keras.activations.{_name}",
            fields=(),
            to_keras=_activation(_name),
            to_torch=back(f"torch.nn.{_torch}"),
            examples=_EXAMPLES,
            train=True,
        )
    )

register(
    Rule(
        torch="torch.nn.ReLU",
        keras="keras.layers.ReLU",
        fields=(),
        to_keras=one("keras.layers.ReLU"),
        to_torch=back("torch.nn.ReLU"),
        examples=_EXAMPLES,
        train=True,
    )
)

register(
    Rule(
        torch="torch.nn.LeakyReLU",
        keras="keras.layers.LeakyReLU",
        fields=("negative_slope",),
        to_keras=lambda config: (
            LayerSpec(kind="keras.layers.LeakyReLU", config={"negative_slope": config["negative_slope"]}),
        ),
        to_torch=lambda layers: (
            LayerSpec(
                kind="torch.nn.LeakyReLU", config={"negative_slope": last(layers).config.get("negative_slope", 0.3)}
            ),
        ),
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={"negative_slope": 0.2}, inputs=((2, 7),))),
        train=True,
    )
)
