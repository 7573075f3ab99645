"""Read the variables of TensorFlow checkpoints and SavedModels, without TensorFlow."""
