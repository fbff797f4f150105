"""One family of errors: each says what went wrong, what was received, what was expected and how to fix it."""

from __future__ import annotations


class SiamtrtError(Exception):
    """A mistake the user can repair.

    Args:
        what: the thing that failed, in one clause.
        received: what was found instead.
        expected: what would have been accepted.
        fix: the next step that repairs it.
    """

    def __init__(self, what: str, *, received: object, expected: object, fix: str) -> None:
        self.what, self.received, self.expected, self.fix = what, received, expected, fix
        message = f"{what}: received {received}; expected {expected}. Fix: {fix}"
        super().__init__(" ".join(message.splitlines()))  # one line, whatever a library or a file name put into it


class CheckpointError(SiamtrtError):
    """A checkpoint that cannot be read, or that belongs to another network."""


class BundleError(SiamtrtError):
    """A bundle that is incomplete, edited, or of another schema."""


class ExportError(SiamtrtError):
    """A network whose exported graphs do not reproduce it."""


class CalibrationError(SiamtrtError):
    """Sequences that give no pairs; a tensor, a layer or a threshold from which no INT8 scale can be made."""


class BuildError(SiamtrtError):
    """A graph that TensorRT refused to build."""


class EngineError(SiamtrtError):
    """An engine that does not fit this machine or this TensorRT."""


class SessionError(SiamtrtError):
    """A tensor whose name, shape or dtype a session does not take."""


class FrameError(SiamtrtError):
    """A frame the tracker cannot read."""


class BoxError(SiamtrtError):
    """A bounding box that is not a finite, positive rectangle inside the frame."""


class SourceError(SiamtrtError):
    """A video, folder or camera that yields no frames to track."""


class MissingPackageError(SiamtrtError):
    """An optional package that the requested step needs."""


class ResultsError(SiamtrtError):
    """Result files, or the description of a dataset, that cannot be scored."""


class TrainingError(SiamtrtError):
    """A config, annotations or a checkpoint from which nothing can be trained."""


class ServiceError(SiamtrtError):
    """A config of the service, or an address it should listen on, that it cannot work with."""
