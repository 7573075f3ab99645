"""Safe access to files: pinned sources, checked archives, bounded HDF5, atomic writes."""
