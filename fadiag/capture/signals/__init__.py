"""Turn the tensors of a pass into the arrays that are stored.

To add a signal, change three places:

- The table in `fadiag.signals` gets a row. The recorder, the analysis and the documentation read it.
- The signal is taken where it arises: at a layer's call (`fadiag.capture.tracing.layer_call`), at the
  optimizer's step (`fadiag.capture.streams.state_reader`) or once per run (`fadiag.capture.session.static`).
- A test compares its values with an independent computation. ``tests/capture/signals/test_table.py`` fails
  until its small network records the new row.

Only `fadiag.signals` builds the names of arrays or takes them apart.
"""
