"""Read what a study declares: its file, its conditions and its search."""
