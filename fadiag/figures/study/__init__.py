"""Draw a whole study: accuracy, and all conditions side by side."""
