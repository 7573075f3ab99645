"""Rules for batch normalisation. The epsilon is always explicit: torch's default is 1e-5, Keras' default is 1e-3."""

from functools import partial

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import last, paired, require_value, shape_of
from keras3conv.rules.helpers.counterpart import affine_weights
from keras3conv.rules.helpers.own_layers import MASKED_BATCH_NORM
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Same

_FIELDS = paired("num_features", "track_running_stats", eps="epsilon", momentum="momentum", affine=("scale", "center"))
_STATISTICS = ("running_mean", "moving_mean"), ("running_var", "moving_variance")
_IGNORED = {"num_batches_tracked": "a counter that is used only with momentum=None"}
_NOTE = (
    "In training torch stores the unbiased variance of the batch, N/(N-1) times that of Keras. If Keras has no center, "
    "torch's bias is set to zeros; if Keras has no scale, torch's weight is set to ones."
)


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    statistics = (WeightMapping(torch=(torch,), keras=(keras,), transform=Same()) for torch, keras in _STATISTICS)
    return (*affine_weights(config, Same()), *statistics)


def _batch_norm(**config: object) -> LayerSpecs:
    return (LayerSpec(kind="keras.layers.BatchNormalization", config={"axis": -1, **config}),)


def _to_keras(config: Config) -> LayerSpecs:
    if config["momentum"] is None:
        raise RuleError(
            "BatchNorm with momentum=None (a cumulative average) has no counterpart in Keras; set momentum to a number"
        )
    require_value("torch.nn.BatchNorm", "track_running_stats", config["track_running_stats"], True)
    return _batch_norm(
        epsilon=config["eps"],
        momentum=1.0 - config["momentum"],
        scale=config["affine"],
        center=config["affine"],
    )


def _to_torch(layers: LayerSpecs, *, kind: str) -> LayerSpecs:
    keras = last(layers)
    config = {
        "num_features": shape_of(keras, "moving_variance")[0],
        "eps": keras.config.get("epsilon", 1e-3),
        # Rounded because 1 - 0.9 is not exactly 0.1.
        "momentum": round(1.0 - keras.config.get("momentum", 0.99), 12),
        "affine": bool(keras.config.get("scale", True) or keras.config.get("center", True)),
        "track_running_stats": True,
    }
    return (LayerSpec(kind=kind, config=config),)


_SYNC = "torch.nn.SyncBatchNorm"

for _kind, _rank in (*((f"torch.nn.BatchNorm{_rank}d", _rank) for _rank in (1, 2, 3)), (_SYNC, 2)):
    _examples = (
        Example(config={"num_features": 5, "eps": 2e-4, "momentum": 0.2}, inputs=((4, 5, 6, 3, 7)[: _rank + 2],)),
        Example(config={"num_features": 3, "affine": False}, inputs=((2, 3, 7, 4, 5)[: _rank + 2],)),
        *((Example(config={"num_features": 7}, inputs=((4, 7),)),) if _rank == 1 else ()),
    )
    register(
        Rule(
            torch=_kind,
            keras="keras.layers.BatchNormalization",
            fields=_FIELDS,
            weights=_weights,
            to_keras=_to_keras,
            to_torch=partial(_to_torch, kind=_kind),
            layout="channels",
            ignored=_IGNORED,
            examples=_examples,
            note=_NOTE + " Statistics are not synchronised between processes." * (_kind == _SYNC),
        )
    )


def _masked_to_keras(config: Config) -> LayerSpecs:
    return _to_keras({**config, "track_running_stats": True})


def _masked_to_torch(layers: LayerSpecs) -> LayerSpecs:
    (spec,) = _to_torch(layers, kind=MASKED_BATCH_NORM)
    config = {name: value for name, value in spec.config.items() if name != "track_running_stats"}
    return (LayerSpec(kind=MASKED_BATCH_NORM, config=config),)


_MASKED_EXAMPLES = (
    Example(config={"num_features": 5, "eps": 2e-4, "momentum": 0.2, "affine": True}, inputs=((4, 5, 6),)),
    Example(config={"num_features": 3, "eps": 0.3, "momentum": 0.1, "affine": False}, inputs=((2, 3, 7, 4),)),
    Example(config={"num_features": 7, "eps": 1e-3, "momentum": 0.01, "affine": True}, inputs=((4, 7),)),
)
register(
    Rule(
        torch=MASKED_BATCH_NORM,
        keras="keras.layers.BatchNormalization",
        fields=paired("num_features", eps="epsilon", momentum="momentum", affine=("scale", "center")),
        weights=_weights,
        to_keras=_masked_to_keras,
        to_torch=_masked_to_torch,
        layout="channels",
        examples=_MASKED_EXAMPLES,
        train=True,
        fallback=True,
    )
)


def _frozen_to_keras(config: Config) -> LayerSpecs:
    """Return, for a torch module with fixed statistics, a BatchNormalization with trainable=False.

    Such a BatchNormalization uses its moving statistics in training too.
    """
    return _batch_norm(epsilon=config["eps"], trainable=False)


def _frozen_to_torch(layers: LayerSpecs) -> LayerSpecs:
    keras = last(layers)
    require_value(keras.kind, "trainable", keras.config.get("trainable", True), False)
    if not (keras.config.get("scale", True) or keras.config.get("center", True)):
        raise RuleError(
            "BatchNormalization without scale and center cannot become FrozenBatchNorm2d, which has both"
            ": set scale=True and center=True"
        )
    config = {"num_features": shape_of(keras, "moving_variance")[0], "eps": keras.config.get("epsilon", 1e-3)}
    return (LayerSpec(kind="torchvision.ops.misc.FrozenBatchNorm2d", config=config),)


_FROZEN_BATCH_NORM2D_TO_BATCH_NORMALIZATION_EXAMPLES = (
    Example(config={"num_features": 5, "eps": 2e-4}, inputs=((4, 5, 6, 3),)),
    Example(config={"num_features": 3}, inputs=((2, 3, 7, 4),)),
)
register(
    Rule(
        torch="torchvision.ops.misc.FrozenBatchNorm2d",
        keras="keras.layers.BatchNormalization",
        fields=paired(eps="epsilon"),
        weights=_weights,
        to_keras=_frozen_to_keras,
        to_torch=_frozen_to_torch,
        layout="channels",
        examples=_FROZEN_BATCH_NORM2D_TO_BATCH_NORMALIZATION_EXAMPLES,
        train=True,
        note="The Keras layer has trainable=False.",
    )
)
