"""Name the signals, and turn the tensors of a pass into the arrays that are stored."""
