"""The range test: at which learning rate the loss of a model falls fastest, on a copy of it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.keras_private import compile_settings, flat_layers, rate_variable
from gradscope.backend.optimizers import unwrap
from gradscope.backend.patches import tracings_uncounted
from gradscope.backend.seeding import forget_streams, seeded
from gradscope.backend.train_step import has_own_step, optimizers
from gradscope.errors import UsageError
from gradscope.inputs.arrays import take_samples
from gradscope.inputs.models import deep_recursion
from gradscope.records import Declined, Evidence, RangeTest
from gradscope.signals.rates import SUGGESTED
from gradscope.surgery.graph import copy_model
from gradscope.trials.scoring import keep_finite
from gradscope.trials.splits import Examples, draw_order
from gradscope.trials.traced_loop import attempt, trace

MOST_STEPS = 100
FIRST_RATE, LAST_RATE = 1e-7, 10.0
_WIDTH = 4  # steps, half a decade at most: the standard deviation of the smoothing
_DIVERGED = 4.0  # fastai stops at four times the lowest loss
_FEWEST = 20
_FLAT_PART = 5  # at the rates of the first fifth nothing is learnt yet
_NOISE, _FALL = 6.0, 0.02  # standard errors, and share of the loss, that are no fall
_BEGUN = 0.1  # of the fall
_BELOW_LOWEST = 3.0  # a rate at the lowest loss is on the verge of too high already
_BELOW_DIVERGENCE = 10.0  # fastai's rule of thumb


@tracings_uncounted()
def range_test(
    model: keras.Model,
    examples: Examples,
    *,
    steps: int = MOST_STEPS,
    batch_size: int = 32,
    rates: tuple[float, float] = (FIRST_RATE, LAST_RATE),
    optimizer: keras.optimizers.Optimizer | None = None,
    seed: int = 0,
) -> RangeTest | Declined:
    """Train a copy for some steps at a rate that grows from step to step; watch its loss.

    Smith 2017, Cyclical learning rates for training neural networks, arXiv:1506.01186, section
    3.3, with the rules of thumb of fastai's `lr_find`. The model is left as it was.

    Args:
        model: compiled.
        examples: what it is trained on.
        steps: at most 100; fewer are taken where the loss diverges.
        rates: the first and the last.
        optimizer: to try in place of the model's own; it is used up.

    Returns:
        The curve and a suggestion, or why there is none: a model that cannot be copied, or whose
        optimizer has not one rate that can be set.

    Raises:
        UsageError: steps or rates that cannot be.
        TrialError: a model that cannot be trained on the data.
    """
    if not 2 <= steps <= MOST_STEPS:
        raise UsageError(f"steps must be a whole number from 2 to {MOST_STEPS}. Received: {steps}.")
    if not 0 < rates[0] < rates[1]:
        raise UsageError(f"rates must be two positive numbers, the lower first. Received: {rates}.")
    if not model.compiled or model.optimizer is None:
        return Declined(model.name, "the model is not compiled, so it has no optimizer to try")
    if has_own_step(model) and len(optimizers(model)) > 1:
        return Declined(model.name, "several optimizers may make its steps")
    copy = copy_model(model)
    if isinstance(copy, Declined):
        return copy
    if optimizer is not None:
        _compile(copy, optimizer)
    rate = _free_rate(copy, rates[0])
    if rate is None:
        return Declined(model.name, "its optimizer has not one learning rate that can be set")
    tried = np.geomspace(*rates, steps)
    forget_streams()
    with deep_recursion(), seeded(seed) as generator:
        losses = _try_rates(copy, rate, examples, tried, batch_size, seed, generator)
    return judge_losses(
        type(unwrap(copy.optimizer)).__name__, tried[: len(losses)].tolist(), losses
    )


def _compile(copy: keras.Model, optimizer: Any) -> None:
    settings = {**(compile_settings(copy) or {}), "optimizer": optimizer}
    keras.Model.compile(copy, **settings, auto_scale_loss=False)


def _free_rate(copy: keras.Model, first: float) -> Any:
    """The variable that holds the learning rate; in the place of a schedule a new one."""
    own = unwrap(copy.optimizer)
    held = rate_variable(own)
    if held is None and own is copy.optimizer and "learning_rate" in (config := own.get_config()):
        _compile(copy, type(own).from_config({**config, "learning_rate": first}))
        held = rate_variable(copy.optimizer)
    return held


def _try_rates(
    copy: keras.Model,
    rate: Any,
    examples: Examples,
    tried: np.ndarray,
    batch_size: int,
    seed: int,
    generator: Any,
) -> list[float | None]:
    tensors = examples.tensors()
    if not copy.built or not all(layer.built for layer in flat_layers(copy)):
        attempt(lambda: copy(take_samples(tensors.x, 1)))
    loop = trace(copy, generator, tensors, batch_size, lambda _: lambda: (None, None))
    rows = draw_order(examples.num_samples, len(tried), batch_size, seed)
    losses: list[float | None] = []
    for step, value in enumerate(tried):
        rate.assign(value)
        _, found = attempt(lambda: loop.advance(tensors, tf.constant(rows[step : step + 1])))  # noqa: B023
        losses.append(keep_finite(float(found.numpy()[0])))
        if losses[-1] is None or _has_diverged(losses):
            break
    return losses


def judge_losses(optimizer: str, rates: list[float], losses: list[float | None]) -> RangeTest:
    """Say what losses at growing rates tell."""
    smoothed = smooth(losses)
    steepest = suggestion = diverged = None
    if len(smoothed) < len(losses) or _has_diverged(losses):
        diverged = rates[len(losses) - 1]
    if len(smoothed) >= _FEWEST:
        first = np.array(losses[: len(smoothed) // _FLAT_PART], float)
        lowest = int(np.argmin(smoothed))
        fall = first.mean() - smoothed[lowest]
        noise = first.std(ddof=1) / np.sqrt(2 * np.sqrt(np.pi) * _WIDTH)
        if lowest > 0 and fall > max(_NOISE * noise, _FALL * abs(first.mean())):
            # From the last time that a tenth of the fall was still ahead: before it there is noise.
            above = np.flatnonzero(smoothed[:lowest] > first.mean() - _BEGUN * fall)
            begin = int(above[-1]) if len(above) else 0
            slopes = np.diff(smoothed[begin : lowest + 1])
            steepest = rates[begin + int(np.argmin(slopes))]
            suggestion = min(steepest, rates[lowest] / _BELOW_LOWEST)
    return RangeTest(
        optimizer=optimizer,
        rates=tuple(map(float, rates)),
        losses=tuple(losses),
        smoothed=tuple(float(value) for value in smoothed),
        steepest_rate=None if steepest is None else float(steepest),
        divergence_rate=None if diverged is None else float(diverged),
        suggestion=None if suggestion is None else float(f"{suggestion:.2g}"),
    )


def smooth(losses: list[float | None]) -> np.ndarray:
    """Mean over neighbours, weighted by a Gaussian, up to the first loss that is missing.

    An average over what was before alone would lag, and show the fall at too high a rate. Losses
    far above the first ones count as four times those.
    """
    end = next((i for i, loss in enumerate(losses) if loss is None), len(losses))
    held = np.array(losses[:end], float)
    if not end:
        return held
    level = abs(np.median(held[:10]))
    held = np.minimum(held, held[0] + _DIVERGED * level)
    apart = np.subtract.outer(np.arange(end), np.arange(end))
    weights = np.exp(-0.5 * (apart / _WIDTH) ** 2)
    return np.asarray(weights @ held / weights.sum(1))


def _has_diverged(losses: list[float | None]) -> bool:
    """Whether the last losses lie far above the lowest, or above the first where those are low."""
    held = [loss for loss in losses if loss is not None]
    if len(held) < 2 * _WIDTH:
        return False
    last = float(np.median(held[-_WIDTH:]))
    first = float(np.median(held[:_WIDTH]))
    return last > first + (_DIVERGED - 1) * abs(first)


def as_evidence(test: RangeTest, present: float, statistic: str = SUGGESTED) -> Evidence | None:
    """What a finding takes along for its treatment: the suggestion against the present rate."""
    if test.suggestion is None:
        return None
    return Evidence(statistic, test.suggestion, present, "rate")
