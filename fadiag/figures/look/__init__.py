"""Set how figures look: styles of venues, themes, the palette, fonts and texts."""
