"""Remember if the running command was given the Keras model before the torch model."""

from contextvars import ContextVar

exchanged: ContextVar[bool] = ContextVar("exchanged", default=False)
"""True if the first argument of the running command is the Keras model, and the second the torch model."""
