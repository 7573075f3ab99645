"""Everything that imports Keras: views, runs, traces, gradients, files."""
