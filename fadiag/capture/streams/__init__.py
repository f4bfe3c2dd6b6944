"""Read the sources of signals: probes, the training's own passes, the optimizer's state, and nulls."""
