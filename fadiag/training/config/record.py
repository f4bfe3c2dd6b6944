"""Define the keys of the table ``[record]``: the recorded signals and their schedule."""

from typing import Literal

import msgspec

from fadiag.training.config.bounds import Count, CountOrZero

__all__ = ["LiveConfig", "RecordConfig"]

#: Steps between two records, or the steps themselves.
_When = Count | tuple[CountOrZero, ...]
_Reduction = Literal["auto", "raw", "factor"]
_Unfolding = Literal["samples", "channels"]


class LiveConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is recorded of the training batches themselves, see `fadiag.capture.Live`.

    Examples
    --------
    >>> LiveConfig(every=10).signals
    ('activation', 'modulator', 'error')
    """

    signals: tuple[str, ...] = ("activation", "modulator", "error")
    every: _When = 50
    reduction: _Reduction = "auto"
    unfolding: _Unfolding = "samples"
    rows: Count | None = None


class RecordConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is recorded.

    Attributes
    ----------
    every : int or list of int
        Steps between two records of the probe and of the state, or the steps themselves.
    layers : list of str, optional
        Names or globs of the layers; all by default.
    state : list of str, optional
        Signals of the state; all by default.
    live : LiveConfig, optional
        Signals of the training batches; none by default.
    probe_samples : int
        How many of the first held-out samples are the probe.
    probe_mode : {"train", "eval"}
        The model's mode in a probe. In "train", batch norm uses the probe's own statistics, as a training
        step uses its batch's. So the Jacobians are of the kind that the learning rule works with.
    signals : list of str, optional
        Signals of the probe; all by default.
    redraws, gate_draws : int
        Draws of the redrawn-feedback and of the gate null.
    null_every : int or list of int, optional
        When they are drawn; at the first record and the last by default.
    jacobian_vectors, reduction, unfolding, rows
        As in `fadiag.Probe`.

    Examples
    --------
    >>> RecordConfig(every=10).redraws
    99
    """

    every: _When = 100
    layers: tuple[str, ...] | None = None
    state: tuple[str, ...] | None = None
    live: LiveConfig | None = None
    probe_samples: Count = 256
    probe_mode: Literal["train", "eval"] = "train"
    signals: tuple[str, ...] | None = None
    redraws: CountOrZero = 99
    gate_draws: CountOrZero = 20
    null_every: _When | None = None
    jacobian_vectors: CountOrZero = 0
    reduction: _Reduction = "auto"
    unfolding: _Unfolding = "samples"
    rows: Count | None = None
