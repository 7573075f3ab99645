"""Rules for normalization layers."""
