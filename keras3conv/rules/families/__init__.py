"""Contain the rules, one file per kind of layer. `rules.library` imports all files, which registers the rules."""
