"""Check that error_bp is the derivative of the loss, and that adapters take effect."""
