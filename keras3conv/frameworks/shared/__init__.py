"""Values that both frameworks' adapters use: inputs, recordings, data flow, memory layout."""
