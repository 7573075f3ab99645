"""Set the default dtype of new weights in both frameworks."""

import keras
import torch


def set_default_dtype(name: str) -> None:
    """Set the dtype of new weights in this process.

    Args:
        name: "float32", "float64", "float16" or "bfloat16".
    """
    torch.set_default_dtype(getattr(torch, name))
    keras.config.set_floatx(name)
