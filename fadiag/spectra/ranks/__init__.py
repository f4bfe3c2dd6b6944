"""How many directions a matrix has: participation ratio, effective rank, stable rank."""
