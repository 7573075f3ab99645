"""Recognize buffers and parameters that are constants, not weights: position ids, masks, frequencies."""

from keras3conv.model.views import TensorRef

# Buffers that a torch constructor computes. Keras computes the same values during the call, or stores them outside of
# the weights. Each entry: the name, the kinds of dtype, and the content.
_CONSTANTS: tuple[tuple[str, str, str], ...] = (
    ("relative_position_index", "iu", "the index of the table row for each pair of positions, computed from the sizes"),
    ("relative_coords_table", "f", "the distances between positions, computed from the sizes"),
    ("attn_mask", "fb", "the attention mask between positions, computed from the sizes"),
    ("causal_mask", "b", "the causal mask between positions, computed from the sizes"),
    ("position_ids", "iu", "the numbers 0, 1, 2, ..."),
    ("token_type_ids", "iu", "zeros"),
    ("inv_freq", "f", "the frequencies of the rotary embedding, computed from the head size"),
    ("embed_scale", "f", "the factor of an embedding, computed from its size"),
    ("num_batches_tracked", "iu", "a counter that is used only with momentum=None"),
    *(
        (name, "iu", "a counter of the training")
        for name in ("n_averaged", "num_updates", "queue_ptr", "epoch", "step", "global_step", "iteration")
    ),
)


_SPECTRAL_NORM = "keras.layers.SpectralNormalization"


def constant_buffer(role: str, dtype: str) -> str:
    """Return the reason why a torch buffer needs no counterpart in Keras; empty if it may need one.

    Args:
        role: The name of the buffer in its module, such as "position_ids".
        dtype: The name of its dtype. It distinguishes integer position indices from a trained table of the same name.
    """
    kinds = {"float": "f", "bfloa": "f", "int": "i", "uint": "u", "bool": "b"}
    kind = next((letter for start, letter in kinds.items() if dtype.startswith(start)), "")
    reasons = [reason for name, allowed, reason in _CONSTANTS if _is_called(role, name) and kind and kind in allowed]
    return reasons[0] if reasons else ""


def _is_called(role: str, name: str) -> bool:
    """Return whether a buffer has a given name; "inv_freq" may have a prefix, as in "original_inv_freq"."""
    return role == name or (name == "inv_freq" and role.endswith(f"_{name}"))


def is_constant(tensor: TensorRef) -> bool:
    """Return whether a torch tensor is a buffer of constants, such as position ids, that follow from model sizes."""
    return not tensor.trainable and bool(constant_buffer(tensor.role.rpartition(".")[2], tensor.dtype))


_OF_RENORM = frozenset({"moving_stddev", "renorm_mean", "renorm_stddev"})
"""The variables that a BatchNormalization of Keras 2 has only with renorm=True."""


def passing_variable(role: str, kinds: tuple[str, ...]) -> str:
    """Return the reason why a Keras variable, such as a seed, needs no counterpart in torch; empty if it may need one.

    Args:
        role: The name of the variable in its layer.
        kinds: The class names of the layer; empty if unknown.
    """
    if role.rpartition("/")[2] == "vector_u" and (not kinds or _SPECTRAL_NORM in kinds):
        return "the start vector of a power iteration, which training computes again"
    if role in _OF_RENORM and (not kinds or "keras.layers.BatchNormalization" in kinds):
        return "a statistic of renorm=True, which acts in training only"
    return ""
