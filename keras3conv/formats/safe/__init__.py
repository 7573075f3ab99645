"""Read and write untrusted files safely: detect changes, check archives, bound memory and time."""
