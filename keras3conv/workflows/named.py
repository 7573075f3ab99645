"""Give the tensors in a plan the names that they have in the models of a workflow."""

import os

from keras3conv.alignment.located import may_have_other_names, named_for
from keras3conv.alignment.plan import Alignment
from keras3conv.frameworks.adapter import Adapter, KerasFile


def with_names_of(plan: Alignment, *models: Adapter) -> Alignment:
    """Return a plan with the tensor names of the given Keras model, which is a live model or its file.

    The names differ if layers are of the user's own classes: a Keras 3 file numbers their variables.

    Args:
        plan: The plan (the pairs of tensors).
        *models: The models of a transfer or of a comparison; one of them is the Keras side.
    """
    keras = next(model for model in models if model.side == "keras")
    is_missing = isinstance(keras, KerasFile) and not os.path.lexists(keras.source)
    return plan if is_missing or not may_have_other_names(plan) else named_for(plan, keras.view())
