"""Draw ranks of signals."""
