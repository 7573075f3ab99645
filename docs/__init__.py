"""The documentation. The scripts in `tools` make its pages."""
