"""Read a store: its committed state, its chunks, and its arrays as an `xarray.DataTree`."""
