"""Turn the tensors of a pass into the arrays that are stored.

To add a signal, change three places. Add a row to the table in `fadiag.signals`: the recorder, the analysis
and the documentation read it there. Take the signal: from a layer's call in
`fadiag.capture.tracing.layer_call`, from the optimizer's step in `fadiag.capture.streams.state`, or once per
run in `fadiag.capture.session.static`. Test its values against an independent computation, and let
``tests/capture/signals/test_table.py`` record it. Nothing else knows the names of signals, and nothing else
builds or parses them.
"""
