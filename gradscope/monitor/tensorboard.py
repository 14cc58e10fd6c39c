"""Snapshots for TensorBoard, where that is installed: scalars and histograms by layer."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import tensorflow as tf

from gradscope.errors import UsageError
from gradscope.monitor.sinks import list_scalars, list_tensors
from gradscope.records import Histogram, Snapshot

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

    def __call__(self, snapshot: Snapshot) -> None:
        """Write all of a snapshot at its step, and hand it to the system.

        Histograms are of log10 of the magnitudes.
        """
        with self._writer.as_default(step=snapshot.step):
            for name, value in list_scalars(snapshot).items():
                tf.summary.scalar(name, value)
            for layer in snapshot.layers:
                for name, path, stats in list_tensors(layer):
                    if stats.histogram.counts:
                        bars = _spread(stats.histogram)
                        tf.summary.histogram(f"{name}/{path}", bars, buckets=_NUM_BARS)
        self._writer.flush()


def _spread(histogram: Histogram) -> Any:
    """log10 of about 1,000 magnitudes that have this histogram."""
    counts = np.array(histogram.counts, np.float64)
    edges = np.array(histogram.log10_edges)
    middles = (edges[:-1] + edges[1:]) / 2
    return np.repeat(middles, np.ceil(counts * min(1.0, 1000 / counts.sum())).astype(int))
