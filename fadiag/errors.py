"""Define the exceptions that fadiag raises on purpose, and its warnings.

Each message names the thing, its value and the way out. The command prints it as one line and exits with 1.
"""

__all__ = [
    "AnalysisWarning",
    "CaptureError",
    "CaptureWarning",
    "ClusterError",
    "ConfigError",
    "ConvertWarning",
    "DamagedError",
    "FadiagError",
    "FigureWarning",
    "InputError",
    "LockedError",
    "MissingSignalError",
    "NotAStoreError",
    "SchemaError",
    "StoreError",
]


class FadiagError(Exception):
    """Base of every error that fadiag raises on purpose."""


class InputError(FadiagError, ValueError):
    """An argument or an array that the function cannot take."""


class ConfigError(InputError):
    """A configuration that lacks a required entry, or has an entry or value that is not allowed."""


class ConvertWarning(UserWarning):
    """A part of a converted model still has its exact backward pass."""


class CaptureError(FadiagError, RuntimeError):
    """A model, probe or schedule that cannot be recorded as asked."""


class CaptureWarning(UserWarning):
    """A part of the model is not recorded or not known; the recorded signals are correct."""


class AnalysisWarning(UserWarning):
    """A part of the runs is left out of the results; the measured values are correct."""


class FigureWarning(UserWarning):
    """A figure that may not look as its theme asks; what it shows is correct."""


class MissingSignalError(FadiagError, LookupError):
    """A metric or a figure needs a signal that was not recorded."""


class ClusterError(FadiagError):
    """A cluster that cannot be reached, or was lost."""


class StoreError(FadiagError):
    """A store that cannot be written or read."""


class NotAStoreError(StoreError):
    """The path does not hold a fadiag store."""


class SchemaError(StoreError):
    """A store with a schema that this version does not know."""


class LockedError(StoreError):
    """Another writer has locked the store."""


class DamagedError(StoreError):
    """A store whose bytes do not match its metadata."""
