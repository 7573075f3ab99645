"""Rules that pair torch embeddings with Keras embeddings."""

from functools import partial

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import paired, require_value, shape_of
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Same, Skip

_TABLE_FIELDS = paired(
    "padding_idx", "max_norm", "scale_grad_by_freq", num_embeddings="input_dim", embedding_dim="output_dim"
)
_WEIGHTS = (WeightMapping(torch=("weight",), keras=("embeddings",), transform=Same()),)
_KINDS = ("keras.layers.Embedding", "keras.layers.ReversibleEmbedding")


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    return _WEIGHTS


def _table(config: Config, *, torch: str, keras: str) -> LayerSpec:
    require_value(torch, "max_norm", config["max_norm"], None)  # the table changes with every call
    require_value(torch, "scale_grad_by_freq", config["scale_grad_by_freq"], False)
    sizes = {"input_dim": config["num_embeddings"], "output_dim": config["embedding_dim"]}
    return LayerSpec(kind=keras, config=sizes)


def _table_config(layers: LayerSpecs) -> dict[str, object]:
    """Return the configuration of the torch Embedding that corresponds to the Keras layer which has the table.

    Args:
        layers: The Keras layers; one of them is the embedding, others add or reduce.
    """
    table = next((layer for layer in layers if layer.kind in _KINDS), layers[0])
    rows, columns = shape_of(table, "embeddings")
    sizes = {"num_embeddings": rows, "embedding_dim": columns}
    return {**sizes, "padding_idx": None, "max_norm": None, "scale_grad_by_freq": False}


def _embedding_to_keras(config: Config, *, keras: str) -> LayerSpecs:
    return (_table(config, torch="torch.nn.Embedding", keras=keras),)


def _embedding_to_torch(layers: LayerSpecs) -> LayerSpecs:
    require_value(layers[-1].kind, "tie_weights", layers[-1].config.get("tie_weights", True), True)
    return (LayerSpec(kind="torch.nn.Embedding", config=_table_config(layers)),)


_EXAMPLES = (
    Example(config={"num_embeddings": 7, "embedding_dim": 5}, inputs=((2, 3),), integers=7),
    Example(config={"num_embeddings": 6, "embedding_dim": 6}, inputs=((4, 3, 2),), integers=6),
    # The inputs do not contain padding_idx: the gradient of its row differs between the two sides.
    Example(
        config={"num_embeddings": 8, "embedding_dim": 3, "padding_idx": 7},
        inputs=((5, 4),),
        integers=7,
        canonical=False,
    ),
)
_NOTE = (
    "Torch does not train the row of padding_idx, Keras trains every row. mask_zero has no counterpart: it only passes "
    "a mask to later layers. Sparse gradients have no counterpart."
)

for _keras, _more in (
    ("keras.layers.Embedding", ""),
    (
        "keras.layers.ReversibleEmbedding",
        " A tied output head is a Linear in torch; Keras calls this layer in reverse.",
    ),
):
    register(
        Rule(
            torch="torch.nn.Embedding",
            keras=_keras,
            fields=_TABLE_FIELDS,
            weights=_weights,
            to_keras=partial(_embedding_to_keras, keras=_keras),
            to_torch=_embedding_to_torch,
            examples=_EXAMPLES,
            train=True,
            note=_NOTE + _more,
        )
    )


# RoBERTa numbers positions from padding_idx + 1. The rows before are never looked up, and the Keras layer lacks them.
_ROBERTA_PADDING = 1


def _places_skipped(config: Config) -> int:
    return int(config["padding_idx"]) + 1


def _places_weights(config: Config) -> tuple[WeightMapping, ...]:
    return (WeightMapping(torch=("weight",), keras=("embeddings",), transform=Skip(0, _places_skipped(config))),)


def _places_to_keras(config: Config) -> LayerSpecs:
    (table,) = _embedding_to_keras(config, keras="keras.layers.Embedding")
    rows = table.config["input_dim"] - _places_skipped(config)
    return (LayerSpec(kind=table.kind, config={**table.config, "input_dim": rows}),)


def _places_to_torch(layers: LayerSpecs) -> LayerSpecs:
    (table,) = _embedding_to_torch(layers)
    rows = table.config["num_embeddings"] + _ROBERTA_PADDING + 1
    config = {**table.config, "num_embeddings": rows, "padding_idx": _ROBERTA_PADDING}
    return (LayerSpec(kind=table.kind, config=config),)


_PLACES_EXAMPLES = (
    Example(config={"num_embeddings": 9, "embedding_dim": 5, "padding_idx": 1}, inputs=((2, 3),), integers=7),
    Example(config={"num_embeddings": 6, "embedding_dim": 4, "padding_idx": 1}, inputs=((3, 5),), integers=4),
)
register(
    Rule(
        torch="torch.nn.Embedding",
        keras="keras.layers.Embedding",
        variant="places from padding_idx + 1 on",
        fields=_TABLE_FIELDS,
        applies=lambda config: config["padding_idx"] is not None,
        weights=_places_weights,
        to_keras=_places_to_keras,
        to_torch=_places_to_torch,
        torch_arguments=lambda arrays: (arrays[0] + _ROBERTA_PADDING + 1,),
        examples=_PLACES_EXAMPLES,
        train=True,
        note="Lossy: the first padding_idx + 1 rows, which are never looked up, are removed; torch gets zeros back.",
    )
)


# An EmbeddingBag is an embedding and a reduction of its rows.
_REDUCTIONS = {"sum": "keras.ops.sum", "mean": "keras.ops.mean", "max": "keras.ops.max"}
_MODES = {
    **{kind: mode for mode, kind in _REDUCTIONS.items()},
    "keras.layers.GlobalAveragePooling1D": "mean",
    "keras.layers.GlobalMaxPooling1D": "max",
}


def _bag_to_keras(config: Config) -> LayerSpecs:
    for name, value in (("padding_idx", None), ("include_last_offset", False)):
        require_value("torch.nn.EmbeddingBag", name, config[name], value)
    table = _table(config, torch="torch.nn.EmbeddingBag", keras="keras.layers.Embedding")
    return table, LayerSpec(kind=_REDUCTIONS[config["mode"]], config={"axis": -2})


def _bag_to_torch(layers: LayerSpecs) -> LayerSpecs:
    """Return the torch EmbeddingBag for a Keras Embedding and the reduction (sum, mean, max) that follows it, if any.

    The kind of the reduction becomes the argument `mode`.
    """
    config = {**_table_config(layers), "include_last_offset": False}
    for reduction in layers[1:]:
        if reduction.kind not in _MODES:
            raise RuleError(
                f"{reduction.kind} after an Embedding has no counterpart: the modes of EmbeddingBag are "
                f"{', '.join(_MODES)}"
                "; use one of them, or a torch Embedding"
            )
        config["mode"] = _MODES[reduction.kind]
    return (LayerSpec(kind="torch.nn.EmbeddingBag", config=config),)


_EMBEDDING_BAG_TO_EMBEDDING_EXAMPLES = tuple(
    Example(config={"num_embeddings": 7, "embedding_dim": 5, "mode": mode}, inputs=((2 + place, 4),), integers=7)
    for place, mode in enumerate(_REDUCTIONS)
)
register(
    Rule(
        torch="torch.nn.EmbeddingBag",
        keras="keras.layers.Embedding",
        fields={**_TABLE_FIELDS, "mode": "", "include_last_offset": ""},
        weights=_weights,
        to_keras=_bag_to_keras,
        to_torch=_bag_to_torch,
        examples=_EMBEDDING_BAG_TO_EMBEDDING_EXAMPLES,
        train=True,
        note="For bags of equal size, one per row of the input; offsets and per_sample_weights have no counterpart.",
    )
)
