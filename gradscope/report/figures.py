"""Matplotlib figures of a report, for papers and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.errors import UsageError
from gradscope.messages import unknown
from gradscope.records import LayerProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradscope.report.report import Report

_MAX_NAMES = 40  # on an axis; of more layers some are named
_CULPRIT = "#b3261e"


def draw_figure(report: Report, kind: str) -> Figure:
    """The figure of this kind; see `Report.plot`.

    Raises:
        UsageError: an unknown kind, or the report holds nothing to draw.
    """
    from matplotlib.figure import Figure

    if not isinstance(kind, str) or kind not in _KINDS:
        raise UsageError(unknown("figure", kind, _KINDS, f"Known: {', '.join(_KINDS)}."))
    figure = Figure(figsize=(6.8, 3.4), layout="constrained")
    _KINDS[kind](report, figure.subplots())
    return figure


def _draw_gradient(report: Report, axes: Axes) -> None:
    _draw_rms(report, axes, lambda layer: layer.activation_gradient, "rms of dL/d output")


def _draw_signal(report: Report, axes: Axes) -> None:
    _draw_rms(report, axes, lambda layer: layer.output, "rms of the output")


def _draw_rms(report: Report, axes: Axes, stats: Callable[[LayerProfile], Any], label: str) -> None:
    layers = _find_measured(report, lambda layer: stats(layer) and stats(layer).rms)
    axes.semilogy(range(len(layers)), [stats(layer).rms for layer in layers], ".-")
    axes.set_ylabel(label)
    _name_layers(report, axes, layers)


def _draw_saturation(report: Report, axes: Axes) -> None:
    layers = _find_measured(report, lambda layer: layer.saturated_fraction is not None)
    places = np.arange(len(layers))
    axes.bar(
        places - 0.2, [layer.saturated_fraction or 0 for layer in layers], 0.4, label="saturated"
    )
    axes.bar(places + 0.2, [layer.dead_fraction or 0 for layer in layers], 0.4, label="dead")
    axes.set(ylim=(0, 1), ylabel="fraction")
    axes.legend()
    _name_layers(report, axes, layers)


def _draw_histograms(report: Report, axes: Axes) -> None:
    layers = _find_measured(
        report,
        lambda layer: layer.activation_gradient and layer.activation_gradient.histogram.counts,
    )
    held = [layer.activation_gradient.histogram for layer in layers if layer.activation_gradient]
    low = min(h.first_exponent for h in held)
    high = max(h.first_exponent + len(h.counts) for h in held)
    shares = np.zeros((len(held), high - low))
    for row, h in zip(shares, held, strict=True):
        start = h.first_exponent - low
        row[start : start + len(h.counts)] = np.asarray(h.counts) / sum(h.counts)
    extent = (low * np.log10(2), high * np.log10(2), len(held) - 0.5, -0.5)
    axes.imshow(shares, aspect="auto", cmap="viridis", extent=extent, interpolation="nearest")
    axes.set_xlabel("magnitude of dL/d output, powers of ten")
    _name_layers(report, axes, layers, axes.yaxis)


def _draw_loss(report: Report, axes: Axes) -> None:
    history = report.history
    if history is None or not history.loss.steps:
        raise UsageError("This report holds no training. Make one with rehearse or a Monitor.")
    values = [np.nan if v is None else v for v in history.loss.mean]
    axes.plot(history.loss.steps, values, label="training loss")
    seen = [(v.step, v.loss) for v in history.validation if v.loss is not None]
    if seen:
        axes.plot(*zip(*seen, strict=True), ".-", label="validation loss")
    if history.constant_loss is not None:
        axes.axhline(history.constant_loss, ls="--", c="grey", label="constant prediction")
    if all(v is None or v > 0 for v in history.loss.minimum):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.legend()


def _find_measured(report: Report, has: Callable[[LayerProfile], Any]) -> list[LayerProfile]:
    layers = [layer for layer in report.layers if has(layer)]
    if not layers:
        raise UsageError("This report holds no such measurement of any layer.")
    return layers


def _name_layers(
    report: Report, axes: Axes, layers: Sequence[LayerProfile], axis: Any = None
) -> None:
    """Label an axis with the layers, the culprits of the first finding in red."""
    axis = axes.xaxis if axis is None else axis
    step = -(-len(layers) // _MAX_NAMES)
    named = range(0, len(layers), step)
    names = [layers[n].label for n in named]
    axis.set_ticks(named, labels=names, rotation=0 if axis is axes.yaxis else 90)
    culprits = set(report.findings[0].culprits) if report.findings else set()
    for n, text in zip(named, axis.get_ticklabels(), strict=True):
        if {layers[n].id, layers[n].path} & culprits:
            text.set_color(_CULPRIT)


_KINDS = {
    "gradient": _draw_gradient,
    "signal": _draw_signal,
    "saturation": _draw_saturation,
    "histograms": _draw_histograms,
    "loss": _draw_loss,
}
