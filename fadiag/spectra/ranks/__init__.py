"""Count the directions of a matrix: participation ratio, effective rank and stable rank."""
