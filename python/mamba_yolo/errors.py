"""Every error a user may see: one line, names the thing, says what to do next.

Each is a `MambaYoloError` and the built-in that fits, so `except ValueError` works too.
"""


class MambaYoloError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigError(MambaYoloError, ValueError):
    """An option with an unknown name or a value outside its domain."""


class UsageError(ConfigError):
    """A command line with an unknown command or option; ends with exit code 2."""


class DataError(MambaYoloError, ValueError):
    """A data set, label or annotation that cannot be used."""


class ImageError(MambaYoloError, OSError, ValueError):
    """An image that is missing, unreadable or not an image; names the file and the reason."""


class CheckpointError(MambaYoloError, ValueError):
    """A weights file that is not ours, damaged, hostile, or made for another model."""


class MissingFileError(MambaYoloError, FileNotFoundError):
    """A path given by the user that does not exist."""


class BackendError(MambaYoloError, RuntimeError):
    """A backend that was asked for and cannot run here."""


class TrainingError(MambaYoloError, RuntimeError):
    """Training that cannot go on: NaN loss, a best file that does not reproduce its figures."""


class RankLostError(TrainingError):
    """Another process of the same training run has ended; the error of that one is the cause."""


class DetectionError(MambaYoloError, ValueError):
    """Detections that cannot be ranked: NaN, or the wrong shape."""


class ShapeError(MambaYoloError, ValueError):
    """A tensor whose shape, dtype or device does not fit the operation."""


class MissingPackageError(MambaYoloError, ImportError):
    """An optional package that the request needs; the message is the install command."""


class NotYetError(MambaYoloError, NotImplementedError):
    """Something whose name is reserved and that this version does not do."""


class SaveError(MambaYoloError, OSError):
    """A file that could not be written; what was there before is untouched."""
