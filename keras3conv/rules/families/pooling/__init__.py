"""Rules for pooling and resizing."""
