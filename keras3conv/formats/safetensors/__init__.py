"""Read and write safetensors files and their sharded index."""
