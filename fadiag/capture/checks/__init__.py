"""Check what the recorder claims: error_bp is the derivative of the loss, adapters have an effect."""
