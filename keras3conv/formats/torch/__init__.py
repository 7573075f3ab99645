"""Read torch checkpoints without running pickled code, and write them."""
