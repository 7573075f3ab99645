"""Recognize buffers and parameters that hold a constant of the computation, not a weight."""

from keras3conv.model.views import TensorRef

# Buffers that a constructor computes: Keras computes them when it runs, or keeps them outside of its weights.
_CONSTANTS: tuple[tuple[str, str, str], ...] = (
    ("relative_position_index", "iu", "which row of the table each pair of places has; the sizes tell"),
    ("relative_coords_table", "f", "the distances between places; the sizes tell"),
    ("attn_mask", "fb", "which places see each other; the sizes tell"),
    ("causal_mask", "b", "which places see each other; the sizes tell"),
    ("position_ids", "iu", "the numbers from 0 on"),
    ("token_type_ids", "iu", "zeros"),
    ("inv_freq", "f", "the frequencies of the rotation; the size of a head tells"),
    ("embed_scale", "f", "the factor of the rows; their size tells"),
    ("num_batches_tracked", "iu", "a counter that only momentum=None reads"),
)


_SPECTRAL_NORM = "keras.layers.SpectralNormalization"


def constant_buffer(role: str, dtype: str) -> str:
    """Why a torch buffer needs no counterpart; empty where it may need one.

    Args:
        role: What its module calls it.
        dtype: The name of its dtype. A parameter table of the same name is no constant: numbers of places are integers.
    """
    kinds = {"float": "f", "bfloa": "f", "int": "i", "uint": "u", "bool": "b"}
    kind = next((letter for start, letter in kinds.items() if dtype.startswith(start)), "")
    reasons = [reason for name, allowed, reason in _CONSTANTS if _is_called(role, name) and kind and kind in allowed]
    return reasons[0] if reasons else ""


def _is_called(role: str, name: str) -> bool:
    """Whether a buffer has this name, or is one of several with it: "original_inv_freq", "sliding_inv_freq"."""
    return role == name or (name == "inv_freq" and role.endswith(f"_{name}"))


def is_constant(tensor: TensorRef) -> bool:
    """Whether a buffer holds what every model of its sizes computes."""
    return not tensor.trainable and bool(constant_buffer(tensor.role.rpartition(".")[2], tensor.dtype))


def passing_variable(role: str, kinds: tuple[str, ...]) -> str:
    """Why a Keras variable needs no counterpart; empty where it may need one.

    Args:
        role: What its layer calls it.
        kinds: The class names of the layer; none where they are not known.
    """
    if role.rpartition("/")[2] == "vector_u" and (not kinds or _SPECTRAL_NORM in kinds):
        return "where a power iteration begins; training finds it again"
    return ""
