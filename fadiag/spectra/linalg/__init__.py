"""Centering, Gram matrices and singular values, batched and in float64."""
