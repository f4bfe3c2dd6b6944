"""Define the metrics: the signals, the formula and the null of each."""
