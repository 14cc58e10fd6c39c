"""A trial in pictures: training before and after the treatment, from the same seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gradscope.render.pictures.canvas import Along, Picture, Series, by_number
from gradscope.render.pictures.lines import Kind, line_chart
from gradscope.render.values import items, percent

SIDES = (("before", "s1"), ("after", "s0"))
_MEASURES = {
    "accuracy": "accuracy on held-out samples",
    "explained": "explained variance, held out",
}


def trial_pictures(trial: dict[str, Any]) -> list[Picture]:
    """Training loss, result on held-out samples, and the gradient by depth, where known."""
    return [*_losses(trial), *_draw_held_out(trial), *_profiles(trial)]


def _losses(trial: dict[str, Any]) -> list[Picture]:
    runs = {side: [items(r, "losses") for r in items(trial, side, "runs")] for side, _ in SIDES}
    length = max((len(losses) for side in runs.values() for losses in side), default=0)
    if length < 2:
        return []
    steps = trial.get("steps") or length
    along = by_number([(i + 1) * steps / length for i in range(length)], "training step", "step")
    series = [s for side, css in SIDES for s in _bundle(side, css, runs[side], length)]
    caption = (
        "The line is the mean over the seeds, the band goes from the lowest to the highest; both "
        "sides saw the same samples in the same order."
    )
    chart = line_chart("Training loss", along, series, y_label="loss", kind=_kind(series))
    return [Picture("Training loss, before and after", caption, chart)]


def _draw_held_out(trial: dict[str, Any]) -> list[Picture]:
    measure = trial.get("measure") or "loss"
    key = "metric" if measure in _MEASURES else "loss"
    runs = {
        side: [items(r, "checkpoints") for r in items(trial, side, "runs")] for side, _ in SIDES
    }
    steps = sorted({c.get("step") or 0 for side in runs.values() for run in side for c in run})
    if len(steps) < 2:
        return []
    by_step = {
        side: [[_at_step(run, step, key) for step in steps] for run in runs[side]]
        for side, _ in SIDES
    }
    series = [s for side, css in SIDES for s in _bundle(side, css, by_step[side], len(steps))]
    kind: Kind = "share" if measure == "accuracy" else "linear"
    label = _MEASURES.get(measure, "loss on held-out samples")
    chart = line_chart(
        label, by_number(steps, "training step", "step"), series, y_label=label, kind=kind
    )
    caption = "What counts: samples that neither side was trained on."
    return [Picture(label.capitalize(), caption, chart)]


def _at_step(run: Sequence[dict[str, Any]], step: int, key: str) -> float | None:
    return next((c.get(key) for c in run if c.get("step") == step), None)


def _profiles(trial: dict[str, Any]) -> list[Picture]:
    norms = {side: items(trial, side, "gradient_norms") for side, _ in SIDES}
    length = max(map(len, norms.values()))
    if length < 2:
        return []
    # Inputs and loss are at the same places for both, however deep each of them is.
    places = {
        side: [i / max(len(norms[side]) - 1, 1) for i in range(len(norms[side]))]
        for side, _ in SIDES
    }
    every = sorted({place for side in places.values() for place in side})
    series = [
        Series(side, [known.get(place) for place in every], css=css)
        for side, css in SIDES
        if (known := dict(zip(places[side], norms[side], strict=True)))
    ]
    names = [f"{percent(place)} of the way to the loss" for place in every]
    ticks = [(0.0, "inputs"), (1.0, "loss")]
    along = Along(names, every, ticks, "depth, relative to each model's own", 1 / len(every))
    chart = line_chart(
        "Gradient by depth", along, series, y_label="L2 norm of dL/d output (log scale)"
    )
    caption = "The gradient at the start of training, before and after: level is healthy."
    return [Picture("Gradient by depth, before and after", caption, chart)]


def _bundle(
    side: str, css: str, runs: Sequence[Sequence[float | None]], length: int
) -> list[Series]:
    """The mean line with its spread, and the single runs thin behind it."""
    columns = [
        [value for run in runs if i < len(run) and (value := run[i]) is not None]
        for i in range(length)
    ]
    if not any(columns):
        return []
    mean: list[float | None] = [math.fsum(c) / len(c) if c else None for c in columns]
    low, high = _each(columns, min), _each(columns, max)
    thin = [Series(side, run, css=css, thin=True) for run in runs] if len(runs) > 1 else []
    return [*thin, Series(side, mean, low, high, css=css)]


def _each(
    columns: Sequence[Sequence[float]], pick: Callable[[Sequence[float]], float]
) -> list[float | None]:
    return [pick(column) if column else None for column in columns]


def _kind(series: Sequence[Series]) -> Kind:
    values = [v for s in series for v in s.values if v is not None]
    spread = max(values, default=1.0) > 10 * max(min(values, default=1.0), 1e-300)
    return "log" if spread and min(values, default=0.0) > 0 else "linear"
