"""The exceptions for bad input, each with a sentence that says what was expected, what was found and what to do."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Bad input from a user. The message is shown as it is and the command ends with exit code 2."""


class DataError(InputError):
    """Data that cannot be used: a missing folder, an unknown cell type, a damaged file."""


class PolicyError(InputError):
    """A policy file that cannot be used: damaged, of another version, or not what it claims."""


class DamagedFile(DataError):
    """An annotation file that is there and cannot be read.

    Attributes:
        path: of the file.
    """

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class SizeError(DataError):
    """An image of another size than its annotations say."""
