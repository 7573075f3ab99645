"""Define and look up the rules: each pairs a torch class with a Keras class and maps weights and arguments."""
