"""The ordered method: pair two lists of layers by position and offsets."""
