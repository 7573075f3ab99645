"""Rules for group normalisation, and for instance normalisation: groups of one channel."""

from functools import partial

from keras3conv.rules.helpers.config import input_channels, last, paired, require_value
from keras3conv.rules.helpers.counterpart import affine_weights
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Same

_GROUP_NORM = "keras.layers.GroupNormalization"


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    return tuple(affine_weights(config, Same()))


def _group_norm_to_keras(config: Config) -> LayerSpecs:
    keras = {"groups": config["num_groups"], "epsilon": config["eps"], **_affine(config)}
    return (LayerSpec(kind=_GROUP_NORM, config={"axis": -1, **keras}),)


def _instance_norm_to_keras(config: Config) -> LayerSpecs:
    require_value("torch.nn.InstanceNorm", "track_running_stats", config["track_running_stats"], False)
    keras = {"groups": -1, "epsilon": config["eps"], **_affine(config)}
    return (LayerSpec(kind=_GROUP_NORM, config={"axis": -1, **keras}),)


def _affine(config: Config) -> Config:
    return {"scale": config["affine"], "center": config["affine"]}


def _read_group_norm(spec: LayerSpec) -> tuple[int, int, bool]:
    """Return the numbers of groups and channels, and torch's argument `affine`, for a Keras GroupNormalization.

    `affine` is True if the Keras layer has a scale or a center; torch always has both or none.
    """
    affine = spec.config.get("scale", True) or spec.config.get("center", True)
    require_value(_GROUP_NORM, "axis", spec.config.get("axis", -1), -1, *_last_axes(spec))
    shape = spec.shapes.get("gamma", spec.shapes.get("beta"))
    channels = shape[0] if shape else input_channels(spec)
    groups = spec.config.get("groups", 32)
    return (channels if groups == -1 else groups), channels, bool(affine)


def _last_axes(spec: LayerSpec) -> tuple[int, ...]:
    """Return, in a tuple, the index of the last input axis of a Keras layer; all possible, (2, 3, 4), if unknown."""
    return (len(spec.inputs[0]) - 1,) if spec.inputs else (2, 3, 4)


def _group_norm_to_torch(layers: LayerSpecs) -> LayerSpecs:
    groups, channels, affine = _read_group_norm(last(layers))
    config = {"num_groups": groups, "num_channels": channels, "affine": affine}
    return (LayerSpec(kind="torch.nn.GroupNorm", config={"eps": last(layers).config.get("epsilon", 1e-3), **config}),)


def _instance_norm_to_torch(layers: LayerSpecs, *, kind: str) -> LayerSpecs:
    groups, channels, affine = _read_group_norm(last(layers))
    require_value(_GROUP_NORM, "groups", groups, channels)
    config = {"num_features": channels, "eps": last(layers).config.get("epsilon", 1e-3), "affine": affine}
    # Without running statistics the momentum has no effect.
    return (LayerSpec(kind=kind, config={**config, "track_running_stats": False}),)


_GROUP_NORM_TO_GROUP_NORM_EXAMPLES = (
    Example(config={"num_groups": 2, "num_channels": 6, "eps": 2e-3}, inputs=((3, 6, 5, 4),)),
    Example(config={"num_groups": 3, "num_channels": 6, "affine": False}, inputs=((2, 6, 7),)),
    Example(config={"num_groups": 1, "num_channels": 3}, inputs=((2, 3, 4, 5, 6),)),
)
register(
    Rule(
        torch="torch.nn.GroupNorm",
        keras=_GROUP_NORM,
        fields=paired("num_channels", num_groups="groups", eps="epsilon", affine=("scale", "center")),
        weights=_weights,
        to_keras=_group_norm_to_keras,
        to_torch=_group_norm_to_torch,
        layout="channels",
        examples=_GROUP_NORM_TO_GROUP_NORM_EXAMPLES,
        train=True,
    )
)

for _rank in (1, 2, 3):
    _examples = (
        Example(config={"num_features": 5, "eps": 2e-3, "affine": True}, inputs=((3, 5, 4, 7, 6)[: _rank + 2],)),
        Example(config={"num_features": 3}, inputs=((2, 3, 7, 4, 5)[: _rank + 2],)),
    )
    register(
        Rule(
            torch=f"torch.nn.InstanceNorm{_rank}d",
            keras=_GROUP_NORM,
            fields=paired("num_features", "track_running_stats", eps="epsilon", affine=("scale", "center")),
            weights=_weights,
            to_keras=_instance_norm_to_keras,
            to_torch=partial(_instance_norm_to_torch, kind=f"torch.nn.InstanceNorm{_rank}d"),
            layout="channels",
            examples=_examples,
            train=True,
            note="Only without running statistics: Keras always normalises by the statistics of the input.",
        )
    )
