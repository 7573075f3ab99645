"""Convert calls of Keras operations to torch; each file has the handlers (converting functions) for one family."""
