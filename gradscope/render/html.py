"""The report as one self-contained HTML page that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradscope.render.happenings import find_proof
from gradscope.render.page import page
from gradscope.render.pictures.attention import attention
from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.factors import factors
from gradscope.render.pictures.flow import flow, stays_healthy
from gradscope.render.pictures.forward import forward
from gradscope.render.pictures.graph import graph
from gradscope.render.pictures.histograms import histograms
from gradscope.render.pictures.lag import lag
from gradscope.render.pictures.rehearsal import rehearsal_pictures
from gradscope.render.pictures.shares import shares
from gradscope.render.pictures.speed import speed
from gradscope.render.pictures.trials import trial_pictures
from gradscope.render.pictures.waterfall import waterfall
from gradscope.render.values import clean, findings_by_severity, items, join_names
from gradscope.render.verdict import Verdict, verdict
from gradscope.render.views.checks import checks, list_declined, recipe
from gradscope.render.views.findings import findings
from gradscope.render.views.history import history
from gradscope.render.views.layers import COLUMNS, layers
from gradscope.render.views.overview import facts, remedy
from gradscope.render.views.prescriptions import prescriptions
from gradscope.render.views.rehearsal import rehearsal
from gradscope.render.views.trials import trials

_CAUSES = (waterfall, factors)
_MEASURED = (graph, histograms, speed, forward, shares, attention, lag)


# What a shorter page does without, one after the other: what a reader misses least comes first.
_BULKY = ("layers", "pictures", "causes", "trials", "rehearsal", "history", "hero")


def render_html(report: dict[str, Any]) -> str:
    """One HTML page from the plain data of a report (`Report.to_plain()`)."""
    return page("report.html.jinja", **_parts(report))


def render_ever_shorter(report: dict[str, Any]) -> Iterator[str]:
    """The page, then pages with ever fewer of their bulkiest parts; each says what it lacks."""
    parts = _parts(report)
    yield page("report.html.jinja", **parts)
    for number, part in enumerate(_BULKY, 1):
        if parts[part]:
            note = f"{', '.join(_BULKY[:number])}: to_html() writes the whole page"
            recipe = [*parts["recipe"], ("left out here", note)]
            parts = {**parts, part: []}
            yield page("report.html.jinja", **{**parts, "recipe": recipe})


def _parts(report: dict[str, Any]) -> dict[str, Any]:
    report = clean(report)
    opinion = verdict(report)
    hero = _hero(report, opinion)
    measured = [picture for kind in _MEASURED for picture in kind(report)]
    return {
        "title": opinion.sentence,
        "verdict": opinion,
        "culprits": join_names(opinion.culprits, items(report, "layers"), 5),
        "remedy": remedy(report, opinion),
        "facts": facts(report),
        "hero": hero,
        "findings": findings(report),
        "causes": [picture for kind in _CAUSES for picture in kind(report)],
        "prescriptions": prescriptions(report),
        "trials": trials(report),
        "rehearsal": rehearsal(report, hero),
        "history": history(report),
        "pictures": [picture for picture in measured if picture not in hero],
        "layers": layers(report),
        "columns": COLUMNS,
        "checks": checks(report),
        "declined": list_declined(report),
        "recipe": recipe(report),
    }


def _hero(report: dict[str, Any], opinion: Verdict) -> list[Picture]:
    """The picture that shows what the verdict says, or else one that there are numbers for."""
    if opinion.level == "improved":
        proof = find_proof(report, [p.get("treatment") or "" for p in items(report, "kept")])
        if drawn := proof and trial_pictures(proof):
            return drawn[:2][-1:]
    worst = next(iter(findings_by_severity(report)), {})
    through_time = (worst.get("symptom") or "").endswith("through-time")
    if through_time and (drawn := lag(report)[:1]):
        return drawn
    if stays_healthy(report) and (drawn := rehearsal_pictures(report)):
        return drawn
    return flow(report) or graph(report)
