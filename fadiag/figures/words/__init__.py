"""Write the words of figures: findings, definitions and captions."""
