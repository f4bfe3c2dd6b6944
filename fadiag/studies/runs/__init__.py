"""Make the runs of a study, each once, in a pool that studies share."""
