"""Rules for layers that are one matrix product, for embeddings, and for layers that are one parameter."""
