"""When to sample: what `Monitor(log_freq=...)` means."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from typing import Any

from gradscope.errors import UsageError

# step (from 1), whether it is the first of an epoch -> whether to sample it
Schedule = Callable[[int, bool], bool]


def schedule(log_freq: Any) -> Schedule:
    """Which steps to sample.

    Args:
        log_freq: a number n (the first step and every n-th after it), "epoch" (the first step of
            each), a mapping {from which step: every how many} for dense early and sparse later, or
            a function of the step that says whether to sample it.

    Raises:
        UsageError: anything else.
    """
    if log_freq == "epoch":
        return lambda step, begins: begins
    if isinstance(log_freq, int) and not isinstance(log_freq, bool) and log_freq > 0:
        return lambda step, begins: (step - 1) % log_freq == 0
    if isinstance(log_freq, Mapping) and log_freq and _are_counts(log_freq):
        starts = sorted(log_freq)
        return lambda step, begins: _by_table(log_freq, starts, step)
    if callable(log_freq):
        return lambda step, begins: bool(log_freq(step))
    raise UsageError(
        "log_freq must be a whole number above 0, 'epoch', a mapping such as {1: 4, 200: 64} "
        f"(from step 200 on every 64th), or a function of the step. Received: {log_freq!r}."
    )


def _are_counts(table: Mapping[Any, Any]) -> bool:
    return all(isinstance(k, int) and isinstance(v, int) and v > 0 for k, v in table.items())


def _by_table(table: Mapping[int, int], starts: list[int], step: int) -> bool:
    start = starts[max(0, bisect.bisect_right(starts, step) - 1)]
    return (step - max(start, 1)) % table[start] == 0
