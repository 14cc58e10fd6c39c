"""How well a trained model does on the validation arrays: the more the better.

Accuracies are 0 and shares of variance NaN where a prediction is not finite.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from tests.clinic.data import Data


def predict(model: keras.Model, x: Any) -> Any:
    return model.predict(x, verbose=0, batch_size=256)


def accuracy(model: keras.Model, data: Data) -> float:
    """Share of right classes: the largest of several units, or one unit at a half.

    Labels may be indices or one-hot. Several units may face labels that were meant for one.
    """
    predicted = np.asarray(predict(model, data.x_val), "float64")
    if not np.isfinite(predicted).all():
        return 0.0
    wanted = np.asarray(data.y_val)
    if predicted.shape[-1] == 1:
        return float(((predicted.ravel() > 0.5) == wanted.ravel()).mean())
    one_hot = wanted.ndim == predicted.ndim and wanted.shape[-1] > 1
    indices = wanted.argmax(-1) if one_hot else wanted.reshape(predicted.shape[:-1])
    return float((predicted.argmax(-1) == indices).mean())


def label_accuracy(model: keras.Model, data: Data) -> float:
    """Share of right labels where a sample has several that do not exclude one another."""
    predicted = np.asarray(predict(model, data.x_val), "float64")
    if not np.isfinite(predicted).all():
        return 0.0
    return float(((predicted > 0.5) == (np.asarray(data.y_val) > 0.5)).mean())


def r2(model: keras.Model, data: Data) -> float:
    """Share of the targets' variance that is explained."""
    return explain(predict(model, data.x_val), data.y_val)


def explain(predicted: Any, wanted: Any) -> float:
    """Share of the variance of `wanted` that `predicted` explains, all columns together."""
    predicted = np.asarray(predicted, "float64").reshape(len(predicted), -1)
    wanted = np.asarray(wanted, "float64").reshape(len(wanted), -1)
    if not np.isfinite(predicted).all():
        return math.nan
    rest = ((wanted - predicted) ** 2).sum()
    return float(1 - rest / ((wanted - wanted.mean(0)) ** 2).sum())


def mean_column_r2(model: keras.Model, data: Data) -> float:
    """The mean over the columns of x of the share of variance that a reconstruction explains."""
    rebuilt = np.asarray(predict(model, data.x_val), "float64")
    if not np.isfinite(rebuilt).all():
        return math.nan
    rest = ((rebuilt - data.x_val) ** 2).mean(0)
    return float(np.mean(1 - rest / np.var(data.x_val, axis=0)))


def dice(model: keras.Model, data: Data) -> float:
    """Overlap of predicted and true masks: twice the intersection over the sum of both."""
    predicted = np.asarray(predict(model, data.x_val)) > 0.5
    wanted = np.asarray(data.y_val) > 0.5
    return float(2 * (predicted & wanted).sum() / (predicted.sum() + wanted.sum()))


def neighbour_accuracy(model: keras.Model, data: Data) -> float:
    """Share of validation samples whose nearest training embedding is of their class."""
    known, asked = predict(model, data.x), predict(model, data.x_val)
    if not (np.isfinite(known).all() and np.isfinite(asked).all()):
        return 0.0
    distances = ((asked[:, None] - known[None]) ** 2).sum(-1)
    return float((np.ravel(data.y)[distances.argmin(1)] == np.ravel(data.y_val)).mean())
