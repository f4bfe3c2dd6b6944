"""The metrics: what each one measures, on which signals, with which null."""
