"""Run extra forward and backward passes on a model without leaving a trace in the training run."""
