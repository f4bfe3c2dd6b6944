"""Draw curves, intervals, nulls and bounds into a panel."""
