"""Work on whole stores: summarize, verify, compact and export them."""
