"""Trace each layer's output through the forward pass, and record the gradients along the way.

`trace.Trace` sees every torch operation of a pass. It builds the dataflow graph of each layer's output
(`dataflow`, with the operations of `op_kinds`) and attaches tensor hooks to its nodes (`grad_hooks`). After
the backward pass, `layer_call` finds the layer's norm and gate in that graph and reads the signals there.
"""
