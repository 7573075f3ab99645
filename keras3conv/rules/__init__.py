"""Define and look up rules; a rule pairs a torch class with a Keras class, and translates weights and arguments."""
