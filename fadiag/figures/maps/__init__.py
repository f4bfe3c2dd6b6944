"""Draw tables of values as colors."""
