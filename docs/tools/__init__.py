"""The scripts that make pages, pictures and outputs of the documentation."""
