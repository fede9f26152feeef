"""Errors that are the user's to mend, told in one sentence."""

from __future__ import annotations


class FoundryError(Exception):
    """A mistake a user can mend.

    The message names the field or file, what was found, what is allowed and the remedy.
    """


class TrainingFailed(FoundryError):  # noqa: N818
    """A training ended with an error; the message is the run's own."""


class TrainingStopped(FoundryError):  # noqa: N818
    """A training was stopped from outside; its last checkpoint stands and a new launch resumes it."""
