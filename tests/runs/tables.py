"""Data made for one question each; the same arrays at every call."""

from __future__ import annotations

import numpy as np

from tests.clinic import data
from tests.clinic.data import Data, split


def linear() -> Data:
    """Ten features with a linear target; the largest curvature of the loss is about 8.8."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((534, 10)) * np.array([2.0] + [0.7] * 9)
    y = x @ rng.standard_normal((10, 1)) + 0.1 * rng.standard_normal((534, 1))
    return split(x.astype("float32"), y.astype("float32"))


def weak_signal() -> Data:
    """A twentieth of the target's variance can be known from the inputs."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 10)).astype("float32")
    y = 0.05**0.5 * x[:, :1] + 0.95**0.5 * rng.standard_normal((4000, 1))
    return split(x, y.astype("float32"))


def forecast(share: float, steps: int = 40) -> Data:
    """`share` of the target's variance can be known, from the last two of `steps` inputs."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, steps, 2)).astype("float32")
    signal = (x[:, -1, :1] + x[:, -2, :1]) / 2**0.5
    y = share**0.5 * signal + (1 - share) ** 0.5 * rng.standard_normal((4000, 1))
    return split(x, y.astype("float32"))


def heavy_tails() -> Data:
    """A target with Student's t noise of two and a half degrees of freedom."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 10)).astype("float32")
    y = 2 * x[:, :1] - x[:, 1:2] + 0.5 * rng.standard_t(2.5, (3000, 1))
    return split(x, y.astype("float32"))


def random_labels() -> Data:
    x = np.random.default_rng(0).standard_normal((4000, 64)).astype("float32")
    return split(x, np.random.default_rng(1).integers(0, 10, 4000))


def large_targets() -> Data:
    """Friedman's function, of standard deviation one, around ten."""
    d = data.friedman()
    return d._replace(y=d.y + 10, y_val=d.y_val + 10)


def low_rank() -> Data:
    """A linear map of rank two, to be learned by a deep linear network from a small start."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1200, 10)).astype("float32")
    y = x @ rng.standard_normal((10, 2)) @ rng.standard_normal((2, 1))
    return split(x, (y / y.std()).astype("float32"))


def rare() -> Data:
    """One sample in twenty belongs to the second class; inputs tell which."""
    rng = np.random.default_rng(0)
    y = (rng.random(4000) < 0.05).astype("float32")[:, None]
    x = rng.standard_normal((4000, 10)) + 2.0 * y
    return split(x.astype("float32"), y)


def noisy_labels() -> Data:
    """Digits, four in ten of the training labels drawn at random."""
    d = data.digits()
    rng = np.random.default_rng(0)
    y = np.where(rng.random(len(d.y)) < 0.4, rng.integers(0, 10, len(d.y)), d.y)
    return d._replace(y=y)
