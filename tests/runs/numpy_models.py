"""Dense networks trained by NumPy alone: real runs, cheap enough to have many for calibration."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from gradscope.monitor.baselines import constant_loss
from gradscope.records import DataCard, LayerProfile, LossCard, ModelCard, Profile
from tests.clinic.data import Data
from tests.runs.luck import batch_constants
from tests.runs.recordings import finite_or_none

MSE, CROSSENTROPY = "mean_squared_error", "sparse_categorical_crossentropy"
SNAPSHOTS = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)  # of the run, beside the first step

# The function and its derivative, which is given the argument and the value.
ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "relu": (lambda z: np.maximum(z, 0), lambda z, a: (z > 0) * 1.0),
    "tanh": (np.tanh, lambda z, a: 1 - a * a),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-np.clip(z, -60, 60))), lambda z, a: a * (1 - a)),
    "linear": (lambda z: z, lambda z, a: np.ones_like(z)),
}


class Network:
    """Dense layers of one width and activation, with a linear output.

    `scale` is the variance of a kernel times its fan in (rectifiers) or mean fan (others).
    """

    def __init__(self, rng: np.random.Generator, sizes: list[int], activation: str,
                 scale: float | None, bias: float):  # fmt: skip
        gain = (2.0 if activation == "relu" else 1.0) if scale is None else scale
        pairs = list(itertools.pairwise(sizes))
        fans = [a if activation == "relu" else (a + b) / 2 for a, b in pairs]
        self.kernels = [
            rng.standard_normal(pair) * np.sqrt(gain / fan)
            for pair, fan in zip(pairs, fans, strict=True)
        ]
        last = len(pairs) - 1
        self.biases = [np.full(b, 0.0 if i == last else bias) for i, (_, b) in enumerate(pairs)]
        self.act, self.derivative = ACTIVATIONS[activation]

    @property
    def weights(self) -> list[np.ndarray]:
        return self.kernels + self.biases

    def forward(self, x: np.ndarray, rng: np.random.Generator, dropout: float) -> list[tuple]:
        """By layer: what goes in, the pre-activation, the dropout mask and what comes out."""
        rows: list[tuple] = []
        last = len(self.kernels) - 1
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            z = x @ kernel + bias
            out = z if i == last else self.act(z)
            mask: Any = 1.0
            if dropout and i < last:
                mask = (rng.random(out.shape) > dropout) / (1 - dropout)
            rows.append((x, z, mask, out * mask))
            x = out * mask
        return rows

    def backward(self, rows: list[tuple], gradient: np.ndarray) -> list[np.ndarray]:
        """Gradients of kernels, then of biases, from that of the output."""
        kernels, biases = [], []
        for i in range(len(rows) - 1, -1, -1):
            kernels.append(rows[i][0].T @ gradient)
            biases.append(gradient.sum(0))
            if i:
                _, z, mask, _ = rows[i - 1]
                gradient = gradient @ self.kernels[i].T * mask * self.derivative(z, self.act(z))
        return kernels[::-1] + biases[::-1]


def crossentropy(output: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss of a softmax and its gradient by the output."""
    rows = np.arange(len(y))
    shifted = output - output.max(1, keepdims=True)
    total = np.log(np.exp(shifted).sum(1))
    gradient = np.exp(shifted - total[:, None])
    gradient[rows, y] -= 1
    return float(np.mean(total - shifted[rows, y])), gradient / len(y)


def squared(output: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    error = output - y.reshape(output.shape)
    return float(np.mean(error**2)), 2 * error / error.size


class Steps:
    """The steps of SGD with momentum, or of Adam."""

    def __init__(self, weights: list[np.ndarray], momentum: float, adam: bool):
        self.first = [np.zeros_like(w) for w in weights]
        self.second = [np.zeros_like(w) for w in weights]
        self.momentum, self.adam, self.count = momentum, adam, 0

    def __call__(self, gradients: list[np.ndarray], rate: float) -> list[np.ndarray]:
        self.count += 1
        return [self._step(n, g, rate) for n, g in enumerate(gradients)]

    def _step(self, n: int, gradient: np.ndarray, rate: float) -> np.ndarray:
        if not self.adam:
            self.first[n] = self.momentum * self.first[n] - rate * gradient
            return self.first[n]
        self.first[n] = 0.9 * self.first[n] + 0.1 * gradient
        self.second[n] = 0.999 * self.second[n] + 0.001 * gradient * gradient
        mean = self.first[n] / (1 - 0.9**self.count)
        return -rate * mean / (np.sqrt(self.second[n] / (1 - 0.999**self.count)) + 1e-7)


def train(data: Data, *, steps: int, batch_size: int, seed: int, rate: Callable[[int], float],
          loss: str = CROSSENTROPY, depth: int = 2, width: int = 32, activation: str = "relu",
          scale: float | None = None, bias: float = 0.0, momentum: float = 0.0,
          adam: bool = False, dropout: float = 0.0) -> dict[str, Any]:  # fmt: skip
    """Train from a fresh start; what a watcher would have seen, as `record.record` tells it."""
    rng = np.random.default_rng(seed)
    x = np.asarray(data.x, float)
    outputs = 10 if loss == CROSSENTROPY else data.y.reshape(len(data.y), -1).shape[1]
    network = Network(rng, [x.shape[1], *[width] * depth, outputs], activation, scale, bias)
    judged = crossentropy if loss == CROSSENTROPY else squared
    steps_of = Steps(network.weights, momentum, adam)
    sampled = {1, *(round(steps * part) for part in SNAPSHOTS)}
    labels = []
    seen: dict[str, Any] = {"loss": [], "gradient_norm": [], "learning_rate": [], "looks": {}}
    order, at = rng.permutation(len(x)), 0
    with np.errstate(all="ignore"):
        for number in range(steps):
            if at + batch_size > len(x):
                order, at = rng.permutation(len(x)), 0
            rows = order[at : at + batch_size]
            at += batch_size
            labels.append(data.y[rows])
            passed = network.forward(x[rows], rng, dropout)
            value, gradient = judged(passed[-1][3], data.y[rows])
            gradients = network.backward(passed, gradient)
            updates = steps_of(gradients, rate(number))
            if number + 1 in sampled:
                seen["looks"][number + 1] = _look(network, passed, updates, steps_of, batch_size)
            for weight, update in zip(network.weights, updates, strict=True):
                weight += update
            seen["loss"].append(value)
            seen["gradient_norm"].append(float(np.sqrt(sum((g * g).sum() for g in gradients))))
            seen["learning_rate"].append(rate(number))
    seen["constant_loss"] = constant_loss(loss, data.y)
    seen["batch_constant"] = batch_constants(loss, labels)
    tail = np.mean(seen["loss"][-(steps // 10) :])
    seen["score"] = float(1 - tail / seen["constant_loss"])
    return seen


def _look(network: Network, passed: list[tuple], updates: list[np.ndarray], taken: Steps,
          size: int) -> Profile:  # fmt: skip
    layers = []
    for i, kernel in enumerate(network.kernels):
        norm, out = np.linalg.norm(kernel), passed[i][3]
        rms = np.sqrt(np.mean(out**2))
        variation = np.sqrt(np.mean((out - out.mean(0)) ** 2)) / rms if rms else 0.0
        layers.append(
            LayerProfile(
                path=f"dense_{i}",
                class_="Dense",
                call=0,
                activation=None,
                trainable=True,
                depth=i + 1,
                inputs=(f"dense_{i - 1}:0",) if i else (),
                update_ratio=finite_or_none(np.linalg.norm(updates[i]) / norm if norm else np.nan),
                sample_variation=finite_or_none(variation),
            )
        )
    model = ModelCard(
        "byhand",
        "Sequential",
        len(layers),
        sum(w.size for w in network.weights),
        momentum=0.9 if taken.adam else taken.momentum or None,
    )
    return Profile(model, DataCard("arrays", size, 1), LossCard("", None), tuple(layers))
