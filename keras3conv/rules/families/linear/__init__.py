"""Rules for layers that are one matrix product, embeddings and bare parameters."""
