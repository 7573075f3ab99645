"""Import the Keras 2 that runs the script: the package `keras`, or the one inside TensorFlow."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.simplefilter("ignore")

import tensorflow as tf  # noqa: E402

STANDALONE = Path(sys.argv[1]).name.startswith("keras-")
if STANDALONE and hasattr(tf, "config") and not hasattr(tf.config, "experimental_list_devices"):
    tf.config.experimental_list_devices = list  # Keras 2.3.1 asks TensorFlow 2.1 for what only TensorFlow 2.0 has
keras: Any
if STANDALONE:
    import keras
else:
    keras = tf.keras

VERSION: Any = tuple(int(part) for part in (keras if STANDALONE else tf).__version__.split(".")[:2])
"""The version of Keras; for the Keras inside TensorFlow, the version of TensorFlow (2.4 for Keras 2.4.0)."""
