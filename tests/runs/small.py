"""Runs of small dense networks by NumPy (`byhand`): those the bounds were chosen on.

A run's score is how much of the constant prediction's loss it has taken away on its last batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.clinic import data
from tests.runs import Case, tables
from tests.runs.names import BLOWN, FAST, SLOW, STUCK, SWINGS
from tests.runs.numpy_models import MSE
from tests.runs.rates import cosine, restarts

DIGITS, FRIEDMAN = data.digits, data.friedman


def case(name: str, names: tuple[str, ...], made: Callable[[], Any], rate: Any, steps: int = 300,
         batch_size: int = 32, threshold: float = 0.3, **network: Any) -> Case:  # fmt: skip
    """`rate` is a number or the rate of each step; `network` is what `byhand.train` takes."""
    return Case(
        f"byhand-{name}",
        names,
        None,
        made,
        steps,
        batch_size,
        rate if callable(rate) else lambda _: rate,
        threshold=threshold,
        byhand=network,
    )


FULL: dict[str, Any] = {"loss": MSE, "depth": 0, "batch_size": 400}  # of the linear table

CASES = (
    case("nan-regression", BLOWN, FRIEDMAN, 1.0, loss=MSE),
    case("nan-regression-momentum", BLOWN, FRIEDMAN, 0.3, loss=MSE, momentum=0.9, depth=4),
    case("nan-linear-slowly", BLOWN, tables.linear, 0.2525, 600, **FULL),
    case("linear-grows-slowly", BLOWN, tables.linear, 0.2508, 600, **FULL),
    case("nan-targets-in-thousands", BLOWN, data.friedman_thousands, 0.01, loss=MSE),
    case("nan-after-the-rate-jumps", BLOWN, FRIEDMAN, lambda t: 0.02 if t < 120 else 2.0, 400,
         loss=MSE),
    case("nan-deep", BLOWN, data.diabetes, 0.3, batch_size=16, loss=MSE, depth=8),
    case("adam-rate-1", FAST, DIGITS, 1.0, adam=True),
    case("adam-rate-0.3-tanh", FAST, DIGITS, 0.3, adam=True, depth=5, activation="tanh"),
    case("sgd-rate-5", FAST, DIGITS, 5.0, depth=4),
    case("sgd-rate-10-tanh", FAST, DIGITS, 10.0, depth=3, activation="tanh"),
    case("adam-kills-relu", FAST, DIGITS, 0.5, adam=True, depth=5),
    case("momentum-swings", SWINGS, tables.linear, 0.01, 400, threshold=0.9, momentum=0.9997,
         **FULL),
    case("momentum-swings-in-noise", SWINGS, FRIEDMAN, 0.005, 400, threshold=0.5, momentum=0.9995,
         loss=MSE),
    case("momentum-explodes", SWINGS, tables.linear, 0.5, 400, momentum=0.998, **FULL),
    case("sigmoid-20-adam", STUCK, DIGITS, 1e-3, adam=True, depth=20, width=16,
         activation="sigmoid"),
    case("sigmoid-12-sgd", STUCK, DIGITS, 0.1, depth=12, width=16, activation="sigmoid"),
    case("sigmoid-8-momentum", STUCK, DIGITS, 0.1, momentum=0.9, depth=8, width=16,
         activation="sigmoid"),
    case("dead-relu", STUCK, DIGITS, 1e-3, adam=True, depth=3, bias=-20.0),
    case("dead-relu-regression", STUCK, FRIEDMAN, 0.02, loss=MSE, momentum=0.9, bias=-30.0),
    case("zero-start", STUCK, DIGITS, 1e-3, adam=True, depth=3, scale=0.0),
    case("random-labels", STUCK, tables.random_labels, 1e-3, 400, adam=True, depth=1, width=16,
         scale=0.2),
    case("slow-sgd", SLOW, DIGITS, 1e-5),
    case("slow-adam", SLOW, DIGITS, 1e-6, adam=True),
    case("slow-regression", SLOW, FRIEDMAN, 1e-5, loss=MSE),
    case("slow-momentum", SLOW, DIGITS, 1e-5, momentum=0.9),
    case("slow-after-decay", SLOW, DIGITS, lambda t: 1e-3 * 0.8**t),
    # ---- healthy
    case("sgd", (), DIGITS, 0.1),
    case("momentum", (), DIGITS, 0.03, momentum=0.9),
    case("adam", (), DIGITS, 1e-3, adam=True),
    case("converged", (), DIGITS, 0.01, 800, adam=True),
    case("slow-but-learning", (), DIGITS, 0.01, 500),
    case("warmup-cosine", (), DIGITS, cosine(3e-3, 400, 80), 400, adam=True),
    case("long-warmup", (), DIGITS, cosine(0.2, 400, 200), 400),
    case("restarts", (), DIGITS, restarts(0.3, 120), 480),
    case("restarts-adam", (), DIGITS, restarts(0.02, 80), 480, adam=True, depth=3),
    case("step-decay", (), DIGITS, lambda t: 0.2 * 0.1 ** (t // 130), 400),
    case("batches-of-2", (), DIGITS, 0.01, 800, 2),
    case("batches-of-4-adam", (), DIGITS, 2e-3, 600, 4, adam=True),
    case("batches-of-8-momentum", (), DIGITS, 0.01, 500, 8, momentum=0.9),
    case("batches-of-2-regression", (), FRIEDMAN, 0.005, 800, 2, loss=MSE),
    case("regression", (), FRIEDMAN, 3e-3, 400, loss=MSE, adam=True),
    case("weak-signal", (), tables.weak_signal, 1e-3, 400, loss=MSE, adam=True, depth=1,
         threshold=-0.2),
    case("weak-signal-small-start", (), tables.weak_signal, 3e-3, 400, loss=MSE, adam=True,
         depth=1, scale=0.05, threshold=-0.05),
    case("diabetes", (), data.diabetes, 0.02, loss=MSE, depth=1),
    case("heavy-tails", (), tables.heavy_tails, 3e-3, 400, loss=MSE, adam=True),
    case("far-from-zero", (), tables.large_targets, 0.01, 500, loss=MSE, adam=True),
    case("full-batch-at-the-edge", (), tables.low_rank, 0.2, 300, 900, loss=MSE,
         activation="tanh"),
    case("deep-linear", (), tables.low_rank, 0.05, 600, loss=MSE, activation="linear", depth=3,
         scale=0.12),
    case("saddle", (), tables.low_rank, 0.05, 600, loss=MSE, activation="linear", depth=3,
         scale=0.01),
    case("saddle-tanh", (), DIGITS, 0.3, 500, activation="tanh", depth=4, scale=0.04),
    case("linear-small-batches", (), tables.linear, 0.02, batch_size=8, loss=MSE, depth=1),
    case("dropout", (), DIGITS, 2e-3, 500, adam=True, dropout=0.5),
    case("label-noise", (), tables.noisy_labels, 1e-3, 400, adam=True),
    case("autoencoder", (), data.digits_itself, 3e-3, 400, loss=MSE, adam=True),
    case("large-start", (), DIGITS, 3e-3, 400, adam=True, scale=12.0),
    case("heavy-momentum", (), DIGITS, 0.002, 250, momentum=0.995),
    case("heavier-momentum", (), DIGITS, 2e-4, 400, momentum=0.999),
    case("heaviest-momentum", (), DIGITS, 2e-4, 300, momentum=0.9995),
    case("heavy-momentum-regression", (), FRIEDMAN, 2e-4, loss=MSE, momentum=0.997),
)  # fmt: skip
