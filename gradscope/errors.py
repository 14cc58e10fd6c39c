"""What gradscope raises: one line for a person, and the exit code of the command line."""

from __future__ import annotations


class GradscopeError(Exception):
    """Base of all; `str(error)` is one line: what was passed, what was expected, the remedy."""

    exit_code = 4


class UsageError(GradscopeError):
    """An argument or an environment that gradscope cannot work with."""

    exit_code = 2


class UnreadableError(GradscopeError):
    """A model or data that cannot be read."""

    exit_code = 3


class CannotExamineError(GradscopeError):
    """A model that was read but cannot be examined (no trainable weights, no loss, ...)."""

    exit_code = 4


class SickTrainingError(GradscopeError):
    """A training that `Monitor(on_finding="raise")` ended because of what it found."""

    exit_code = 1


class TrialError(GradscopeError):
    """A training trial that cannot be run: the model cannot be trained, or a worker died."""

    exit_code = 4


class IncomparableError(TrialError):
    """A model whose own train_step returns nothing that a trial can compare."""
