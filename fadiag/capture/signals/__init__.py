"""Convert the tensors of a pass to the arrays in the store.

To add a signal, change three places:

- Add a row to the table in `fadiag.signals`. The recorder, the analysis and the documentation read it.
- Read the signal at its source: a layer's call (`fadiag.capture.tracing.layer_call`), the optimizer's step
  (`fadiag.capture.streams.state_reader`) or the start of a run (`fadiag.capture.session.static`).
- Add a test that compares its values with an independent computation.
  ``tests/capture/signals/test_table.py`` fails until its small network records the new row.

Only `fadiag.signals` builds and parses the names of arrays.
"""
