"""The only importers of torch and of Keras: to view a model, to run it and record what runs, to write into it."""
