"""Reading a store: its committed state, its chunks, its arrays as an `xarray.DataTree`."""
