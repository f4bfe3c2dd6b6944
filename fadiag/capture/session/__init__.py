"""Write a recording to its store, resume it, describe the run, and coordinate several processes."""
