"""Follow a layer's output through the forward pass, and collect the gradients that come back to it."""
