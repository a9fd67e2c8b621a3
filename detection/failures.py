"""How a training ends without a result: each failure carries the one sentence that a user gets."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """A training that cannot go on; the message is shown as it is and the command ends with exit code 1."""


class TrainingDivergedError(TrainingError):
    """A loss or a gradient is no longer a number."""


class ProcessFailedError(TrainingError):
    """One of several training processes ended, and the others were ended with it."""


class TrainingInterrupted(KeyboardInterrupt):
    """Somebody asked to stop; the message says how to go on. The command ends with exit code 130."""
