"""Plan an analysis: open the runs, find the metrics that they allow, and cut the work into blocks."""
