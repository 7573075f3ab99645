"""Run both sides for the judges: samples, meetings of layers, repeats, states."""
