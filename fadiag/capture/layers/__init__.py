"""Find the layers of a model and read their weights and feedback."""
