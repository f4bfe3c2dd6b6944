"""Hold what every figure needs: conditions, measures, values and the panel that is drawn."""
