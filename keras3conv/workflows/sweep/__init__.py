"""Run many alignments, transfers, conversions and validations: one process for each."""
