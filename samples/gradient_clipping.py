"""The same recurrent run with and without clipping at the measured norm; the direction is kept.

python -m gradscope.samples.gradient_clipping
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._data import signs
from gradscope.samples._measures import claim_diagnosed, find_prescription, proof
from gradscope.samples.exploding_rnn import PASCANU, recurrent

if TYPE_CHECKING:
    import keras

    from gradscope.records import Trial

GAIN = 1.6


@sample(
    id="gradient-clipping",
    summary="a run that diverges, and the same run clipped at the measured norm: same direction",
    full=Budget(steps=300, seeds=3, size=50),
    reduced=Budget(steps=150, seeds=3, size=50),
)
def run(budget: Budget) -> Story:
    x, y = signs(budget.size)
    sick = recurrent(GAIN, "relu")
    report = gradscope.analyze(sick, x, y)
    prescription = find_prescription(report, "gradient-clipping")
    threshold = prescription.parameters["global_clipnorm"]
    treated = gradscope.apply(sick, [prescription], x)
    trial = gradscope.trial(sick, treated.model, x, y, steps=budget.steps, seeds=budget.seeds)
    return Story(
        sections=(
            Section(
                "The sick run",
                f"The recurrent network of exploding-rnn with gain {GAIN:g}, trained with plain "
                f"SGD. {report.findings[0].message}",
                claims=(claim_diagnosed(report, "exploding-through-time"),),
                report="sick",
            ),
            _rule(treated.model, threshold, prescription.rationale, x[:32], y[:32]),
            proof({"clipped": trial}, "unclipped", at_least=0.3),
            _divergence(trial),
        ),
        reports={"sick": report},
    )


def one_step(model: keras.Model, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(gradient, what the optimizer's step used as gradient), all weights in one vector each."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    weights = model.trainable_variables
    gradients = tape.gradient(loss, weights)
    before = [np.array(weight) for weight in weights]
    model.optimizer.apply(gradients, weights)
    rate = float(model.optimizer.learning_rate)
    used = [(b - np.array(weight)) / rate for b, weight in zip(before, weights, strict=True)]
    return _flat(gradients), _flat(used)


def _flat(parts: Iterable[Any]) -> np.ndarray:
    return np.concatenate([np.ravel(part) for part in parts]).astype("float64")


def _rule(
    model: keras.Model, threshold: float, rationale: str, x: np.ndarray, y: np.ndarray
) -> Section:
    gradient, used = one_step(model, x, y)
    norm, shortened = float(np.linalg.norm(gradient)), float(np.linalg.norm(used))
    cosine = float(gradient @ used) / (norm * shortened)
    return Section(
        "The cure, one step of it",
        f"gradscope prescribes gradient-clipping: {rationale} One batch through the treated copy: "
        f"its gradient has norm {norm:.4g}; the step that Keras's optimizer then takes is read off "
        "the weights.",
        formulas=(
            Formula("g ← g · threshold / ‖g‖  where ‖g‖ > threshold", f"{PASCANU}, algorithm 1"),
        ),
        figures=(
            _figures.lines(
                "Every entry of the gradient, before and after",
                f"Dots on a straight line through zero: each entry is {shortened / norm:.2g} of "
                "what it was.",
                {"entries": _figures.XY(np.sort(gradient)[::4], used[np.argsort(gradient)][::4])},
                x_label="entry of the gradient",
                y_label="entry that was used",
                scale="linear",
            ),
        ),
        claims=(
            Claim("norm of the batch's gradient over the threshold", norm / threshold, at_least=2),
            Claim(
                "cosine between the gradient and the one that was used",
                cosine,
                at_least=1 - 1e-4,
                at_most=1 + 1e-9,
            ),
            Claim(
                "norm of the one that was used over the threshold",
                shortened / threshold,
                at_least=0.999,
                at_most=1.001,
            ),
        ),
    )


def _divergence(trial: Trial) -> Section:
    unclipped, clipped = (
        sum(run.diverged for run in arm.runs) / len(arm.runs) for arm in (trial.before, trial.after)
    )
    return Section(
        "Who diverged",
        "A run has diverged where its loss is no longer a finite number. Clipping treats the "
        "steps, not their cause: the gradient still grows with every time step, so that a start "
        "of gain 1 (exploding-rnn) or gates are the better cure where the model may be changed.",
        claims=(
            Claim("share of the unclipped runs that diverged", unclipped, at_least=1.0),
            Claim("share of the clipped runs that diverged", clipped, at_most=0.0),
        ),
    )


if __name__ == "__main__":
    play("gradient-clipping")
