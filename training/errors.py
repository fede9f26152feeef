"""Errors that are the user's to mend, told in one sentence."""

from __future__ import annotations

import errno
from pathlib import Path


class FoundryError(Exception):
    """A mistake a user can mend.

    The message names the field or file, what was found, what is allowed and the remedy.
    """


class TrainingFailed(FoundryError):  # noqa: N818
    """A training ended with an error; the message is the run's own."""


class TrainingStopped(FoundryError):  # noqa: N818
    """A training was stopped from outside; its last checkpoint stands and a new launch resumes it."""


def write_error(path: Path, error: OSError) -> FoundryError:
    """The sentence for a failed write: which file, why, what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FoundryError(
            f"{path}: disk full; what was there before is untouched. Free space and launch again."
        )
    return FoundryError(
        f"{path}: cannot be written ({error.strerror}). Check the folder's rights and launch again."
    )
