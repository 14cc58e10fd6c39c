"""Generated sequences, each for a task of its own: the same arrays at every call."""

from __future__ import annotations

import numpy as np

from tests.clinic.data import Data, split, standard


def adding(steps: int) -> Data:
    """The sum of the two marked numbers (Hochreiter and Schmidhuber 1997, section 5.4)."""
    rng = np.random.default_rng(0)
    n = 4000
    values = rng.uniform(-1, 1, (n, steps))
    marks = np.zeros((n, steps))
    rows = np.arange(n)
    first, second = rng.integers(0, steps // 2, n), rng.integers(steps // 2, steps, n)
    marks[rows, first] = marks[rows, second] = 1
    total = values[rows, first] + values[rows, second]
    return split(np.stack([values, marks], -1).astype("float32"), standard(total[:, None]))


def recall(steps: int, scale: float = 1.0) -> Data:
    """Which of four symbols came first, after `steps` - 1 steps of noise."""
    rng = np.random.default_rng(0)
    n = 3000
    y = rng.integers(0, 4, n)
    x = rng.standard_normal((n, steps, 5)).astype("float32") * 0.5
    x[:, 0] = 0
    x[np.arange(n), 0, y] = 2
    x[:, 0, 4] = 2
    return split(scale * x, y)


def signs(steps: int, scale: float = 1.0) -> Data:
    """Is the mean of a noisy channel positive? The other channel says nothing."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 3000)
    x = rng.standard_normal((3000, steps, 2)).astype("float32")
    x[:, :, 0] += (2 * y - 1)[:, None]
    return split(scale * x, y[:, None].astype("float32"))


def tokens(steps: int = 16, words: int = 20, vocabulary: int = 1000) -> Data:
    """Does any of words 1 to 4 occur? Most rows of an embedding are never touched."""
    rng = np.random.default_rng(0)
    x = rng.integers(5, words, (3000, steps))
    y = rng.integers(0, 2, 3000)
    there = np.flatnonzero(y)
    x[there, rng.integers(0, steps, len(there))] = rng.integers(1, 5, len(there))
    assert words <= vocabulary
    return split(x.astype("int32"), y[:, None].astype("float32"))


def padded_tokens(steps: int = 20) -> Data:
    """Token sequences of 4 to `steps` words, zeros after the end; which word came first?"""
    rng = np.random.default_rng(0)
    x = rng.integers(5, 20, (3000, steps))
    y = rng.integers(0, 4, 3000)
    x[:, 0] = 1 + y
    x[np.arange(steps) >= rng.integers(4, steps + 1, 3000)[:, None]] = 0
    return split(x.astype("int32"), y)


def reversal(steps: int = 6, words: int = 6) -> Data:
    """A token sequence; the target is the same sequence backwards."""
    x = np.random.default_rng(0).integers(0, words, (4000, steps))
    return split(x.astype("int32"), np.ascontiguousarray(x[:, ::-1]))
