"""Normalisation. The epsilon is copied always: torch's default is 1e-5, Keras' is 1e-3."""

from functools import partial

from keras3conv.errors import RuleError
from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping, register
from keras3conv.rules._keras import last, require_value, shape_of
from keras3conv.transforms import Same

_BATCH_NORM_ROLES = (
    ("weight", "gamma"),
    ("bias", "beta"),
    ("running_mean", "moving_mean"),
    ("running_var", "moving_variance"),
)


def _batch_norm_weights(config: Config) -> tuple[WeightMapping, ...]:
    return tuple(WeightMapping(torch=(torch,), keras=(keras,), transform=Same()) for torch, keras in _BATCH_NORM_ROLES)


def _batch_norm_to_keras(config: Config) -> LayerSpecs:
    if config["momentum"] is None:
        raise RuleError("BatchNorm with momentum=None (a cumulative average) has no counterpart")
    require_value("torch.nn.BatchNorm", "track_running_stats", config["track_running_stats"], True)
    keras = {
        "axis": -1,
        "epsilon": config["eps"],
        "momentum": 1.0 - config["momentum"],
        "scale": config["affine"],
        "center": config["affine"],
    }
    return (LayerSpec(kind="keras.layers.BatchNormalization", config=keras),)


def _batch_norm_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    keras = last(layers)
    config = {
        "num_features": shape_of(keras, "moving_variance")[0],
        "eps": keras.config.get("epsilon", 1e-3),
        # Rounded, because 1 - 0.9 is not 0.1; twelve digits are more than anybody writes.
        "momentum": round(1.0 - keras.config.get("momentum", 0.99), 12),
        "affine": bool(keras.config.get("scale", True) or keras.config.get("center", True)),
        "track_running_stats": True,
    }
    return (LayerSpec(kind=f"torch.nn.BatchNorm{rank}d", config=config),)


for _rank in (1, 2, 3):
    register(
        Rule(
            torch=f"torch.nn.BatchNorm{_rank}d",
            keras="keras.layers.BatchNormalization",
            fields=("num_features", "eps", "momentum", "affine", "track_running_stats"),
            weights=_batch_norm_weights,
            to_keras=_batch_norm_to_keras,
            to_torch=partial(_batch_norm_to_torch, rank=_rank),
            layout="channels",
            ignored={"num_batches_tracked": "a counter that only momentum=None reads"},
            examples=(
                Example(
                    config={"num_features": 5, "eps": 2e-4, "momentum": 0.2}, inputs=((4, 5, 6, 3, 7)[: _rank + 2],)
                ),
                Example(config={"num_features": 3, "affine": False}, inputs=((2, 3, 7, 4, 5)[: _rank + 2],)),
                *((Example(config={"num_features": 7}, inputs=((4, 7),)),) if _rank == 1 else ()),
            ),
            note="In training torch stores the unbiased variance of the batch, N/(N-1) times that of Keras.",
        )
    )
