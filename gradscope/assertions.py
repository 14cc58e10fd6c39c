"""A model's health as an assertion, for a user's own tests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gradscope.analysis import analyze
from gradscope.rehearsal import rehearse as rehearsal

_SICK = ("error", "warning")


def assert_healthy(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    rehearse: bool = False,
    ignore: Collection[str] = (),
    seed: int = 0,
) -> None:
    """Fail where something of severity "error" or "warning" is found; notes do not count.

    Warnings count because a test is the place to decide on them: `ignore` names those that were
    looked at and found to be meant.

    Example:
        >>> def test_my_model_can_learn():
        ...     gradscope.assert_healthy(build_model(), x_train, y_train)

    Args:
        model: as `analyze` takes it; it is left as it was.
        x: as `analyze` takes it. Without data symptoms that need them are not examined.
        y: as `analyze` takes it.
        rehearse: train a copy for a short while as well, as `rehearse` does. Takes seconds, and
            examines the learning rate, the optimizer and the scale of the targets, which the start
            alone does not show. A training that cannot be examined fails the test.
        ignore: ids of symptoms that are not examined, or one id.
        seed: of the sampling, so that a test says the same at every run.

    Raises:
        AssertionError: with the findings in one line each, then the report's summary.
        GradscopeError: the model could not be examined, as from `analyze` or `rehearse`.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    examine = rehearsal.rehearse if rehearse else analyze
    report = examine(model, x, y, ignore=ignore, seed=seed, verbose=0)
    sick = [
        f"{f.severity} {f.symptom}: {f.message}" for f in report.findings if f.severity in _SICK
    ]
    if rehearse and report.rehearsal is None:
        sick.append("its training could not be examined")
    if sick:
        told = "\n".join(sick)
        raise AssertionError(f"{report.model.name} is not healthy.\n{told}\n\n{report.summary()}")
