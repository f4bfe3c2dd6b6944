"""Compute centered matrices, Gram matrices and singular values, batched and in float64."""
