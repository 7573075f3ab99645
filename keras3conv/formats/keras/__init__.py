"""Read and write the weight and architecture files of Keras: `.keras`, `.weights.h5`, legacy `.h5`, `.json`."""
