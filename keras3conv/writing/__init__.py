"""Write files so that each appears whole or not at all, by private folders and renames; compute digests of files."""
