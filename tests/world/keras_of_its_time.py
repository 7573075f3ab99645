"""The Keras 2 that runs the script: the package `keras` of its own time, or the one inside TensorFlow."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.simplefilter("ignore")

import tensorflow as tf  # noqa: E402

STANDALONE = Path(sys.argv[1]).name.startswith("keras-")
keras: Any
if STANDALONE:
    import keras
else:
    keras = tf.keras

VERSION: tuple[int, int] = tuple(int(part) for part in (keras if STANDALONE else tf).__version__.split(".")[:2])
"""The version of Keras; that of TensorFlow counts for the Keras inside it: 2.4 for Keras 2.4.0."""
