"""Find the layers of a model and read their weights: adapters, selection, structure checks."""
