"""The exceptions that fadiag raises on purpose, and its warnings.

Each message names the thing, its value and the way out. The command prints it as one line and exits 1.
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
    """A configuration that does not say what it must, or says what it must not."""


class ConvertWarning(UserWarning):
    """A part of a model keeps its exact backward pass, though the model was converted."""


class CaptureError(FadiagError, RuntimeError):
    """A model, a probe or a schedule that cannot be recorded as asked."""


class CaptureWarning(UserWarning):
    """Something of the model is not recorded, or not known; what is recorded holds."""


class AnalysisWarning(UserWarning):
    """Something of the runs is left out of the results; what is measured holds."""


class MissingSignalError(FadiagError, LookupError):
    """A metric or a figure needs a signal that was not recorded."""


class ClusterError(FadiagError):
    """A cluster that cannot be reached, or was lost."""


class StoreError(FadiagError):
    """A store that cannot be written or read."""


class NotAStoreError(StoreError):
    """The path does not hold a fadiag store."""


class SchemaError(StoreError):
    """A store of a schema that this version does not know."""


class LockedError(StoreError):
    """Another writer holds the store."""


class DamagedError(StoreError):
    """A store whose bytes are not what its metadata promise."""
