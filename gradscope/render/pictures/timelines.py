"""A training run that a Monitor watched, in pictures: curves of every step, maps of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradscope.render.pictures.attention import attention_over_time
from gradscope.render.pictures.canvas import Picture, Series, by_number
from gradscope.render.pictures.flow import read_signal
from gradscope.render.pictures.lines import Kind, Mark, line_chart
from gradscope.render.pictures.maps import by_step, layer_map, log_shading, share_shading
from gradscope.render.pictures.rows import Read, at
from gradscope.render.values import items, labels, number, plural

_MAX_BANDS = 4
_TAG_WIDTH = 0.025  # of the plot, which the number of an event takes


def timelines(report: dict[str, Any]) -> list[Picture]:
    """What the report's `history` holds numbers for."""
    history = report.get("history") or {}
    snapshots = items(history, "snapshots")
    culprits = {name for f in items(report, "findings") for name in items(f, "culprits")}
    return [
        *_curve(history, "loss", "Loss", "loss of a batch", validation=True),
        *_map(snapshots, "Gradient by layer and step", "L2 norm of dL/d output", read_signal),
        *_map(snapshots, "Learning speed by layer and step", "‖ΔW‖ / ‖W‖", at("update_ratio")),
        *attention_over_time(snapshots),
        *_activations(snapshots, culprits),
        *_dead(history, snapshots),
        *_curve(history, "gradient_norm", "Gradient norm", "L2 norm, all weights together"),
        *_curve(history, "learning_rate", "Learning rate", "learning rate"),
    ]


def _curve(
    history: dict[str, Any], key: str, title: str, y_label: str, validation: bool = False
) -> list[Picture]:
    curve = history.get(key) or {}
    steps, mean = items(curve, "steps"), items(curve, "mean")
    if len(steps) < 2 or all(v is None for v in mean):
        return []
    low, high = items(curve, "minimum"), items(curve, "maximum")
    series = [Series("training" if validation else title.lower(), mean, low or None, high or None)]
    held_out = _validation(history, steps) if validation else []
    if any(v is not None for v in held_out):
        series.append(Series("validation", held_out))
    along = by_number(steps, "training step", "step")
    values = [v for s in series for v in s.values if v is not None]
    # Few losses span decades; a linear scale shows them as people know them.
    wide = min(values) > 0 and max(values) > 30 * min(values)
    kind: Kind = "log" if wide or (key == "gradient_norm" and min(values) > 0) else "linear"
    chart = line_chart(
        title, along, series, y_label=y_label, kind=kind, marks=_marks(history, steps)
    )
    return [Picture(title, _caption(history, curve), chart)]


def _validation(history: dict[str, Any], steps: Sequence[int]) -> list[float | None]:
    """Validation losses at the bins of the curve in which they fell."""
    values: list[float | None] = [None] * len(steps)
    for result in items(history, "validation"):
        place = next((i for i, s in enumerate(steps) if s >= (result.get("step") or 0)), -1)
        values[place] = result.get("loss")
    return values


def _marks(history: dict[str, Any], steps: Sequence[int]) -> list[Mark]:
    span = (steps[-1] - steps[0]) or 1

    def place(step: Any) -> float:
        return min(max(((step or 0) - steps[0]) / span, 0.0), 1.0)

    epochs = [Mark(place(step), "") for step in items(history, "epoch_ends")]
    groups: list[list[tuple[int, float, str]]] = []
    for i, event in enumerate(items(history, "events"), 1):
        step = event.get("step")
        mark = i, place(step), f"step {number(step)}: {event.get('message') or ''}"
        if groups and mark[1] - groups[-1][0][1] < _TAG_WIDTH:
            groups[-1].append(mark)
        else:
            groups.append([mark])
    return [*epochs, *map(_join_events, groups)]


def _join_events(group: list[tuple[int, float, str]]) -> Mark:
    """One mark of events that are too close to be told apart: "3–5", with what each says."""
    (first, place, _), (last, _, _) = group[0], group[-1]
    tag = str(first) if first == last else f"{first}–{last}"
    return Mark(place, "\n".join(note for _, _, note in group), tag)


def _caption(history: dict[str, Any], curve: dict[str, Any]) -> str:
    lost = sum(count or 0 for count in items(curve, "num_non_finite"))
    parts = []
    if items(curve, "minimum") != items(curve, "maximum"):
        parts.append(
            "The band reaches from the lowest to the highest value of the steps that share a point."
        )
    if items(history, "epoch_ends"):
        parts.append("Dotted lines are the ends of epochs.")
    if items(history, "events"):
        parts.append("Numbers are the events listed above.")
    if lost:
        parts.append(f"{plural(lost, 'step')} gave NaN or infinity.")
    return " ".join(parts)


def _map(snapshots: list[dict[str, Any]], title: str, what: str, read: Read) -> list[Picture]:
    names, steps, values = _table(snapshots, read)
    if not names or len(steps) < 2:
        return []
    shading = log_shading([v for row in values for v in row if v is not None])
    caption = f"{what} of each layer, the first at the top, as training went on."
    return [Picture(title, caption, layer_map(title, names, by_step(steps), values, shading))]


def _dead(history: dict[str, Any], snapshots: list[dict[str, Any]]) -> list[Picture]:
    names, steps, values = _table(snapshots, at("dead_fraction"))
    most = max((v for row in values for v in row if v is not None), default=0.0)
    if not most or len(steps) < 2:
        return []
    title = "Dead units by layer and step"
    died = sum(death.get("num_units") or 0 for death in items(history, "deaths"))
    caption = (
        "Share of units that passed no gradient for any sample of the batch. "
        f"{plural(died, 'unit')} died while training."
    )
    chart = layer_map(title, names, by_step(steps), values, share_shading(most))
    return [Picture(title, caption, chart)]


def _activations(snapshots: list[dict[str, Any]], culprits: set[str]) -> list[Picture]:
    names, steps, mean = _table(snapshots, at("output", "mean"))
    _, _, std = _table(snapshots, at("output", "std"))
    if not names or len(steps) < 2:
        return []
    first = [i for i, name in enumerate(names) if name in culprits]
    even = [round(k * (len(names) - 1) / max(_MAX_BANDS - 1, 1)) for k in range(_MAX_BANDS)]
    chosen = sorted([*dict.fromkeys([*first[:2], *even])][:_MAX_BANDS])
    series = [_spread(names[i], mean[i], std[i]) for i in chosen]
    title = "Activations over time"
    chart = line_chart(
        title,
        by_number(steps, "training step", "step"),
        series,
        y_label="output: mean ± std",
        kind="linear",
    )
    caption = "Mean of a layer's output, and one standard deviation around it."
    return [Picture(title, caption, chart)]


def _spread(name: str, mean: list[float | None], std: list[float | None]) -> Series:
    pairs = list(zip(mean, std, strict=True))
    low = [None if m is None or s is None else m - s for m, s in pairs]
    high = [None if m is None or s is None else m + s for m, s in pairs]
    return Series(name, mean, low, high)


def _table(
    snapshots: list[dict[str, Any]], read: Read
) -> tuple[list[str], list[int], list[list[float | None]]]:
    """Names, steps and a row a name; layers without any value are left out."""
    steps = [snapshot.get("step") or 0 for snapshot in snapshots]
    columns = [
        dict(zip(labels(items(s, "layers")), items(s, "layers"), strict=True)) for s in snapshots
    ]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = {
        name: [read(column[name]) if name in column else None for column in columns]
        for name in names
    }
    kept = [name for name in names if any(v is not None for v in rows[name])]
    return kept, steps, [rows[name] for name in kept]
