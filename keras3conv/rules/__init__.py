"""The rule library: which torch layer corresponds to which Keras layer, and how their weights and options map."""
