"""Summarize, verify, compact and export whole stores."""
