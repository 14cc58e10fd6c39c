"""Pictures of the stories, drawn by matplotlib as small SVG text."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradscope.samples._story import Figure

if TYPE_CHECKING:
    from gradscope.records import Trial

_COLOURS = ("#0072b2", "#c85200", "#00835f", "#a8508a", "#6b7280", "#b3261e")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters: a tenth of the size, and they can be read out
    "svg.hashsalt": "gradscope",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "DejaVu Sans", "Arial"],
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d5dae0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_DASHES = ("-", "--", "-.", ":")

Values = Sequence[float | None] | np.ndarray


class XY(NamedTuple):
    """Values with places of their own, in the place of 1, 2, 3 ..."""

    x: Sequence[float] | np.ndarray
    y: Values


Line = Values | XY


def lines(
    title: str,
    alt: str,
    series: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    scale: str = "log",
    bounds: Mapping[str, Line] | None = None,
    marks: str = "o",
) -> Figure:
    """One line a series: values against 1, 2, 3 ..., or an `XY`.

    Args:
        scale: of the vertical axis, "log" or "linear"; None and, on "log", zeros are left out.
        bounds: what theory says, drawn thin and dotted.
    """

    def draw(axes: Any) -> None:
        for i, (name, line) in enumerate(series.items()):
            x, y = _points(line, scale)
            colour, dash = _COLOURS[i % len(_COLOURS)], _DASHES[i % len(_DASHES)]
            marker = marks if len(x) <= 60 else ""
            axes.plot(x, y, dash, color=colour, marker=marker, markersize=3.5, label=name)
        for name, line in (bounds or {}).items():
            axes.plot(*_points(line, scale), ":", color="#1b1f24", linewidth=1.4, label=name)
        axes.set_yscale(scale)
        low, high = axes.get_ylim()
        if scale == "log" and high < 10 * low:  # less would blow noise up to a trend
            axes.set_ylim(low / 3, high * 3)
        axes.xaxis.get_major_locator().set_params(integer=all(_whole(s) for s in series.values()))
        _label(axes, x_label, y_label, len(series) + len(bounds or {}))

    return _draw(title, alt, draw)


def bars(
    title: str, alt: str, groups: Mapping[str, Sequence[float]], names: Sequence[str], y_label: str
) -> Figure:
    """Upright bars, one a name; the groups side by side."""

    def draw(axes: Any) -> None:
        width = 0.8 / len(groups)
        for i, (group, values) in enumerate(groups.items()):
            places = np.arange(len(names)) + (i - (len(groups) - 1) / 2) * width
            axes.bar(places, values, width * 0.95, color=_COLOURS[i], label=group)
        axes.set_xticks(np.arange(len(names)), names)
        axes.grid(axis="x", visible=False)
        _label(axes, "", y_label, len(groups))

    return _draw(title, alt, draw)


def ridges(
    title: str, alt: str, rows: Mapping[str, tuple[Values, Values]], *, x_label: str
) -> Figure:
    """One histogram a row above the other: (edges, counts) each, scaled to its own height."""

    def draw(axes: Any) -> None:
        for i, (edges, counts) in enumerate(rows.values()):
            heights = 0.9 * np.asarray(counts, float) / max(counts)
            axes.stairs(heights + i, edges, baseline=i, fill=True, color=_COLOURS[0], alpha=0.75)
        axes.set_yticks(np.arange(len(rows)) + 0.3, list(rows))
        _label(axes, x_label, "", 1)

    return _draw(title, alt, draw, height=max(2.6, 0.32 * len(rows) + 0.8))


def losses(title: str, alt: str, trials: Mapping[str, Trial], before: str) -> Figure:
    """The training loss of every run: the patient of the first trial, and each treated copy."""

    def draw(axes: Any) -> None:
        first = next(iter(trials.values()))
        arms = {before: first.before, **{name: trial.after for name, trial in trials.items()}}
        for i, (name, arm) in enumerate(arms.items()):
            for run in arm.runs:
                x = np.linspace(1, first.steps, len(run.losses))
                label = name if run is arm.runs[0] else None
                y = [np.nan if loss is None else loss for loss in run.losses]
                axes.plot(x, y, color=_COLOURS[i], alpha=0.8, linewidth=1.2, label=label)
        _label(axes, "optimizer step", "training loss", len(arms))

    return _draw(title, alt, draw)


def _points(line: Line, scale: str) -> tuple[np.ndarray, np.ndarray]:
    values = line.y if isinstance(line, XY) else line
    y = np.array([math.nan if v is None else float(v) for v in values])
    x = np.asarray(line.x) if isinstance(line, XY) else np.arange(1, len(y) + 1)
    return x, np.where(y > 0, y, math.nan) if scale == "log" else y


def _whole(line: Line) -> bool:
    return not isinstance(line, XY) or bool((np.asarray(line.x) % 1 == 0).all())


def _label(axes: Any, x_label: str, y_label: str, num_series: int) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_axisbelow(True)
    if num_series > 1:
        # Above the plot: inside it would lie on one line or another.
        axes.legend(fontsize=8.5, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4)


def _draw(title: str, alt: str, draw: Any, height: float = 3.1) -> Figure:
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(_STYLE):
        figure = Canvas(figsize=(6.8, height), layout="constrained")
        draw(figure.subplots())
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    # The XML prologue is of no use inside a page, and fractions of a thousandth of a point of none.
    svg = svg[svg.index("<svg") :]
    return Figure(title, alt, re.sub(r"(\d\.\d{2})\d+", r"\1", svg))
