"""The pictures of a report, from its plain data, each with a caption that says how to read it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gradscope.render.charts import Series, bar_chart, line_chart
from gradscope.render.heat import heat_chart, heat_row
from gradscope.render.values import dig, flow_trend, items, labels, number, positions

_ALONG = "layer, in forward order (input to the left, loss to the right)"
_CURVES_A_CHART = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of the page."""

    title: str
    caption: str
    svg: Markup


def pictures(report: dict[str, Any], culprits: Collection[str]) -> list[Picture]:
    """The figures that the report has numbers for."""
    rows = items(report, "layers")
    marked = positions(culprits, rows)
    named = list(zip(labels(rows), rows, (i in marked for i in range(len(rows))), strict=True))
    kinds = (_flow, _factors, _histograms, _through_time, _fractions)
    return [picture for kind in kinds for picture in kind(named)]


_Rows = Sequence[tuple[str, dict[str, Any], bool]]
_Read = Callable[[dict[str, Any]], float | None]


def _at(*keys: str) -> _Read:
    return lambda row: dig(row, *keys)


def _measured(rows: _Rows, *reads: _Read) -> _Rows:
    return [row for row in rows if any(read(row[1]) is not None for read in reads)]


def _series(rows: _Rows, **reads: _Read) -> list[Series]:
    """A series a reading, without those that no row has."""
    every = (
        Series(label.replace("_", " "), [read(row) for _, row, _ in rows])
        for label, read in reads.items()
    )
    return [s for s in every if any(v is not None for v in s.values)]


def _axis(rows: _Rows) -> tuple[list[str], set[int]]:
    return [name for name, _, _ in rows], {i for i, (_, _, culprit) in enumerate(rows) if culprit}


def _flow(every: _Rows) -> list[Picture]:
    signal, kernel = _at("activation_gradient", "l2_norm"), _at("kernel_gradient", "l2_norm")
    rows = _measured(every, signal, kernel)
    if not rows:
        return []
    names, marked = _axis(rows)
    trend = flow_trend([signal(row) for _, row, _ in rows])
    picture = line_chart(
        "Gradient flow by layer",
        names,
        _series(rows, backward_signal=signal, kernel_gradient=kernel),
        x_label=_ALONG,
        y_label="L2 norm (log scale)",
        marked=marked,
    )
    caption = (
        "The backward signal is the L2 norm of dL/d output, from right to left. Where the "
        f"gradient flows well the line is level. Here it {trend}."
    )
    return [Picture("Gradient flow by layer", caption, picture)]


def _factors(every: _Rows) -> list[Picture]:
    activation = _at("backward", "activation_factor")
    weight = _at("backward", "weight_factor")
    rows = _measured(every, activation, weight)
    if not rows:
        return []
    names, marked = _axis(rows)
    picture = line_chart(
        "Backward factors by layer",
        names,
        _series(rows, activation_factor=activation, weight_factor=weight),
        x_label=_ALONG,
        y_label="factor (log scale)",
        marked=marked,
        reference=1.0,
    )
    caption = (
        "What each layer multiplies the gradient by on its way back: its activation's derivative "
        "and its weights. Below 1 shrinks, above 1 grows; the factor far from 1 is the guilty one."
    )
    return [Picture("Why it changes: two factors a layer", caption, picture)]


def _histograms(every: _Rows) -> list[Picture]:
    rows = [
        heat_row(name, row["activation_gradient"])
        for name, row, _ in every
        if dig(row, "activation_gradient", "histogram")
    ]
    if not rows:
        return []
    title = "Histograms of the gradient by layer"
    caption = (
        "Each line is one layer, the first at the top: how its entries of dL/d output spread over "
        "magnitudes, an octave (0.3 decades) a cell. The column at the left holds exact zeros."
    )
    picture = heat_chart(title, rows, "magnitude of dL/d output (log scale)")
    return [Picture(title, caption, picture)]


def _through_time(every: _Rows) -> list[Picture]:
    rows = [row for row in every if dig(row[1], "timesteps", "gradient_rms")]
    return [_curves(rows[i : i + _CURVES_A_CHART]) for i in range(0, len(rows), _CURVES_A_CHART)]


def _curves(rows: _Rows) -> Picture:
    curves = [(name, row["timesteps"]) for name, row, _ in rows]
    length = max(len(curve["gradient_rms"]) for _, curve in curves)
    series = [
        Series(
            name,
            [*reversed(curve["gradient_rms"]), *[None] * (length - len(curve["gradient_rms"]))],
        )
        for name, curve in curves
    ]
    half_lives = "; ".join(
        f"{name} halves every {number(curve['half_life'])} steps"
        if curve.get("half_life") is not None
        else f"{name} does not shrink"
        for name, curve in curves
    )
    title = "Gradient through time"
    picture = line_chart(
        title,
        [str(lag) for lag in range(length)],
        series,
        x_label="lag: steps before the last",
        y_label="rms of dL/dh (log scale)",
    )
    caption = f"How much of the gradient reaches earlier steps of a sequence: {half_lives}."
    return Picture(title, caption, picture)


def _fractions(every: _Rows) -> list[Picture]:
    reads = {
        "saturated": _at("saturated_fraction"),
        "dead": _at("dead_fraction"),
        "saturated_gates": _at("gate_saturated_fraction"),
    }
    rows = _measured(every, *reads.values())
    if not rows:
        return []
    names, marked = _axis(rows)
    title = "Saturated and dead shares by layer"
    picture = bar_chart(
        title,
        names,
        _series(rows, **reads),
        x_label=_ALONG,
        y_label="share",
        marked=marked,
    )
    caption = (
        "Saturated: pre-activations on a flat part of the activation. Dead: units that pass no "
        "gradient for any sample seen. Both should be low; sparse ReLU outputs are not dead units."
    )
    return [Picture(title, caption, picture)]
