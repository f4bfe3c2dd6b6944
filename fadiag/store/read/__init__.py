"""Read a run: check the metadata, find the chunks, show them as xarray."""
