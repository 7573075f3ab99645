"""Everything that imports torch: views, runs, gradients, precision."""
