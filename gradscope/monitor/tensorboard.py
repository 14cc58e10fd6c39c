"""Snapshots for TensorBoard, where that is installed: scalars and histograms by layer."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import tensorflow as tf

from gradscope.errors import UsageError
from gradscope.records import Histogram, Snapshot, TensorStats

_NUM_BARS = 30  # what TensorBoard draws


class Board:
    """Writes the snapshots of one run under "<quantity>/<weight or layer path>".

    Raises:
        UsageError: the package `tensorboard` is not installed.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UsageError(
                "tensorboard= needs the package tensorboard, which is not installed. "
                "Install it (pip install tensorboard), or leave tensorboard= out."
            )
        self._writer = tf.summary.create_file_writer(os.fspath(directory))

    def write(self, snapshot: Snapshot) -> None:
        """Write all of a snapshot at its step, and hand it to the system."""
        with self._writer.as_default(step=snapshot.step):
            for name in ("loss", "gradient_norm"):
                _scalar(f"run/{name}", getattr(snapshot, name))
            for layer in snapshot.layers:
                where = layer.path if layer.call == 0 else layer.id
                _scalar(f"dead_fraction/{where}", layer.dead_fraction)
                _scalar(f"saturated_fraction/{where}", layer.saturated_fraction)
                _tensor("activation", where, layer.output)
                _tensor("activation_gradient", where, layer.activation_gradient)
                for weight in layer.weights if layer.call == 0 else ():
                    _scalar(f"update_ratio/{weight.path}", weight.update_ratio)
                    _tensor("gradient", weight.path, weight.gradient)
                    _tensor("weight", weight.path, weight.value)
        self._writer.flush()


def _scalar(tag: str, value: float | None) -> None:
    if value is not None:
        tf.summary.scalar(tag, value)


def _tensor(quantity: str, path: str, stats: TensorStats | None) -> None:
    """The norm as a scalar, and log10 of the magnitudes as a histogram."""
    if stats is None:
        return
    _scalar(f"{quantity}_norm/{path}", stats.l2_norm)
    if stats.histogram.counts:
        tf.summary.histogram(f"{quantity}/{path}", _spread(stats.histogram), buckets=_NUM_BARS)


def _spread(histogram: Histogram) -> Any:
    """log10 of about 1,000 magnitudes that have this histogram."""
    counts = np.array(histogram.counts, np.float64)
    edges = np.array(histogram.log10_edges)
    middles = (edges[:-1] + edges[1:]) / 2
    return np.repeat(middles, np.ceil(counts * min(1.0, 1000 / counts.sum())).astype(int))
