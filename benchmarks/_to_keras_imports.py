"""Import the frameworks in the process from which every row of `_to_keras` is forked."""

import keras  # noqa: F401
import tensorflow  # noqa: F401 - Keras imports it when it saves
import torch  # noqa: F401

from benchmarks import _zoo_own, _zoo_text, _zoo_vision  # noqa: F401
from benchmarks._torchvision import torchvision_models

torchvision_models()
import transformers  # noqa: E402, F401

import keras3conv  # noqa: E402, F401
