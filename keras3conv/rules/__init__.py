"""Define and look up the rules: pairs of a torch class and a Keras class, with the maps of weights and options."""
