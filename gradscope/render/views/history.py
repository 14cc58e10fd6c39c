"""The training run that a Monitor watched."""

from __future__ import annotations

from typing import Any

from gradscope.render.pictures.timelines import timelines
from gradscope.render.values import items, number, plural

_MAX_DEATHS = 20


def history(report: dict[str, Any]) -> dict[str, Any] | None:
    """None where no training was watched."""
    watched = report.get("history")
    if not watched:
        return None
    steps, planned = watched.get("num_steps") or 0, watched.get("num_planned_steps")
    deaths = items(watched, "deaths")
    return {
        "steps": plural(steps, "step") + (f" of {number(planned)}" if planned else ""),
        "snapshots": plural(len(items(watched, "snapshots")), "snapshot"),
        "events": [_event(e) for e in items(watched, "events")],
        "deaths": [
            f"{d.get('layer')}: {plural(d.get('num_units') or 0, 'unit')} at step "
            f"{number(d.get('step'))}"
            for d in deaths[:_MAX_DEATHS]
        ],
        "unwatched": [str(what) for what in items(watched, "unwatched")],
        "more_deaths": max(0, len(deaths) - _MAX_DEATHS),
        "pictures": timelines(report),
    }


def _event(event: dict[str, Any]) -> tuple[str, str, str, str]:
    return (
        number(event.get("step")),
        event.get("symptom") or "",
        event.get("kind") or "",
        event.get("message") or "",
    )
