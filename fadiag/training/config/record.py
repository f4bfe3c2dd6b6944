"""Define the keys of the table ``[record]``: the recorded signals and their schedule."""

from typing import Literal

import msgspec

from fadiag.training.config.bounds import Count, CountOrZero, Seed

__all__ = ["LiveConfig", "LogConfig", "RecordConfig", "SubsetConfig"]


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A schedule with so many records per factor of ten in steps, see `fadiag.capture.logarithmic`.

    Examples
    --------
    >>> RecordConfig(every=LogConfig(per_decade=5)).every.per_decade
    5
    """

    per_decade: Count = 10


class SubsetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A random subset of the samples, see `fadiag.capture.Subset`.

    Examples
    --------
    >>> RecordConfig(rows=SubsetConfig(n=64)).rows.seed
    0
    """

    n: Count
    seed: Seed = 0


#: Steps between two records, the steps themselves, or a logarithmic schedule.
_When = Count | tuple[CountOrZero, ...] | LogConfig
_Rows = Count | SubsetConfig
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
    rows: _Rows | None = None


class RecordConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is recorded.

    Attributes
    ----------
    every : int, list of int, or table
        Steps between two records of the probe and of the state, the steps themselves, or
        ``{per_decade = 10}`` for a logarithmic schedule.
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
    null_every : int, list of int, or table, optional
        When they are drawn; at the first record and the last by default.
    check_every : int, list of int, or table, optional
        When error_bp is checked again, after the check at the first record.
    error_fa : bool
        Also run the probe backward through the B that this run would have under Feedback Alignment. Its
        signals are ``error_fa``, ``modulator_fa`` and ``gradient_fa``. In a run of BP they are what its
        weights have under B.
    jacobian_vectors, reduction, unfolding
        As in `fadiag.Probe`.
    rows : int or table, optional
        The first samples of the probe, or ``{n = 64, seed = 0}`` for a random subset; all by default.

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
    check_every: _When | None = None
    error_fa: bool = False
    jacobian_vectors: CountOrZero = 0
    reduction: _Reduction = "auto"
    unfolding: _Unfolding = "samples"
    rows: _Rows | None = None
