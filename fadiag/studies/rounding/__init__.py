"""Measure what rounding adds to Muon's steps: the same gradients, orthogonalized in several precisions."""
