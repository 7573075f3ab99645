"""Writers of source text."""
