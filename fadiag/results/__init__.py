"""The measured results: files, selection by condition, final values, intervals, provenance."""
