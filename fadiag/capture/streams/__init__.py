"""Read signals from probes, from training passes and from the optimizer, and draw null distributions."""
