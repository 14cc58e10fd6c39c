"""Whether two models compute the same on a few samples, in training or out of it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from gradscope.backend import keras_private as private
from gradscope.backend.isolation import isolated
from gradscope.inputs.arrays import take_samples

_NUM_SAMPLES = 4
# What is drawn anew at every call would look the same after one if it had become a constant.
_NUM_CALLS = 2
_TOLERANCE = 1e-5


def take_probe(x: Any) -> Any:
    """The first samples of the inputs."""
    return take_samples(x, _NUM_SAMPLES)


def is_same(model: keras.Model, other: keras.Model, probe: Any, *, training: bool) -> bool:
    """Whether outputs and the losses that layers add agree; both models are left as they are."""
    wanted, got = (_outcome(each, probe, training) for each in (model, other))
    return len(wanted) == len(got) and all(
        a.shape == b.shape and np.allclose(a, b, _TOLERANCE, _TOLERANCE, equal_nan=True)
        for a, b in zip(wanted, got, strict=True)
    )


def _outcome(model: keras.Model, probe: Any, training: bool) -> list[np.ndarray]:
    options = private.training_options(model, training)
    found = []
    with isolated(model):  # statistics and random numbers are those that the other one sees
        for _ in range(_NUM_CALLS):
            outputs = model(probe, **options)
            arrays = [keras.ops.convert_to_numpy(o) for o in keras.tree.flatten(outputs)]
            found += [np.asarray(a, "float64") for a in (*arrays, *model.losses)]
    return found
