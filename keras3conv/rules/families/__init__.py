"""Register the rules, one file per kind of layer; `rules.library` imports every file of this package."""
