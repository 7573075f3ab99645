"""Write files so that each appears whole or not at all: private folders, renames, digests. Every output uses it."""
