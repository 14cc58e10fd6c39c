"""The naive reference: a plain GradientTape over a forward pass written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from gradscope.measure.objective import objective
from gradscope.measure.profiling import profile
from gradscope.records import DataCard, Profile
from tests.support.models import Case

ROLES = {
    "input": "input_gradient",
    "preactivation": "preactivation_gradient",
    "activation": "activation_gradient",
}
DATA = DataCard("arrays", 0, 2)


def measured(case: Case) -> Profile:
    return profile(case.model, case.batches, DATA, objective(case.model, None, case.batches[0]))


def marked_copy(tensor):
    """A tensor of its own that Keras cannot tell from the original."""
    copy = tf.identity(tensor)
    for name in ("_keras_mask", "_keras_logits"):
        if getattr(tensor, name, None) is not None:
            setattr(copy, name, getattr(tensor, name))
    return copy


class Reference:
    """Losses and gradients of all batches, as float64 arrays."""

    def __init__(self, case: Case, scale: float = 1.0):
        self.losses: list[float] = []
        self.kernels: list[list[np.ndarray]] = [[] for _ in case.model.trainable_weights]
        self.tensors: dict[tuple[str, str], list[np.ndarray]] = {}
        for batch in case.batches:
            self._run(case, batch, scale)

    def _run(self, case: Case, batch, scale: float) -> None:
        noted: list[tuple[tuple[str, str], tf.Tensor]] = []

        def note(row, role, tensor):
            copy = marked_copy(tensor)
            noted.append(((row, role), copy))
            return copy

        with tf.GradientTape() as tape:
            predicted = case.forward(case.model, batch.x, note)
            loss = case.loss(batch.y, predicted, batch.sample_weight)
            scaled = loss * scale
        self.losses.append(float(loss))
        weights = [v.value for v in case.model.trainable_weights]
        found = tape.gradient(scaled, [weights, [t for _, t in noted]])
        for held, gradient in zip(self.kernels, found[0], strict=True):
            held.append(np.asarray(tf.convert_to_tensor(gradient), np.float64) / scale)
        for (key, _), gradient in zip(noted, found[1], strict=True):
            if gradient is not None:
                self.tensors.setdefault(key, []).append(np.asarray(gradient, np.float64) / scale)


def pooled(parts: list[np.ndarray]) -> tuple[float, float]:
    """The l2 norm and rms of all entries."""
    flat = np.concatenate([p.reshape(-1) for p in parts])
    return float(np.linalg.norm(flat)), math.sqrt(float(np.mean(flat**2)))


def assert_gradients_match(
    found: Profile, reference: Reference, rel: float, floor: float = 1e-7
) -> None:
    """Within `rel`, or within `floor` of the largest gradient, where sums cancel."""
    rows = {layer.id: layer for layer in found.layers}
    floor *= max(pooled(p)[1] for p in reference.tensors.values())
    for (row, role), parts in reference.tensors.items():
        stats = getattr(rows[row], ROLES[role])
        assert stats is not None, (row, role)
        assert stats.rms == pytest.approx(pooled(parts)[1], rel=rel, abs=floor), (row, role)
