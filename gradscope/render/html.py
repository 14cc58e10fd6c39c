"""The report as one self-contained HTML page: no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from gradscope.render.pictures import pictures
from gradscope.render.values import (
    MISSING,
    clean,
    dig,
    findings_by_severity,
    items,
    labels,
    named,
    number,
    percent,
    positions,
)
from gradscope.render.verdict import Verdict, in_words, verdict

_MAX_EVIDENCE = 12
_STATS = {
    "count": "count",
    "mean": "mean",
    "std": "std",
    "rms": "rms",
    "l2 norm": "l2_norm",
    "abs max": "abs_max",
    "zero share": "zero_fraction",
    "finite": "finite_fraction",
}
_ROLES = (
    "input",
    "preactivation",
    "output",
    "input_gradient",
    "preactivation_gradient",
    "activation_gradient",
    "kernel",
    "kernel_gradient",
    "update",
)
_PERSISTENCE = {
    "start": "Seen on the weights as given; gone after a few optimizer steps on a copy.",
    "stays": "Still there after a few optimizer steps on a copy.",
}


def render_html(report: dict[str, Any]) -> str:
    """One HTML page from the plain data of a report (`Report.to_plain()`)."""
    report = clean(report)
    style = resources.files("gradscope.render").joinpath("style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    opinion = verdict(report)
    return _template().render(
        style=Markup(style),
        style_hash=digest,
        verdict=opinion,
        culprits=named(opinion.culprits, items(report, "layers")),
        facts=_facts(report),
        findings=[_finding(f, report) for f in findings_by_severity(report)],
        prescriptions=[_prescription(p, report) for p in items(report, "prescriptions")],
        trials=[_trial(t) for t in items(report, "trials")],
        pictures=pictures(report, opinion.culprits),
        layers=_layers(report, opinion),
        checks=[_check(c) for c in sorted(items(report, "checks"), key=_check_order)],
        recipe=_recipe(report),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gradscope", "render"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["words"] = in_words
    return environment.get_template("report.html.jinja")


def _check_order(check: dict[str, Any]) -> int:
    order = ("found", "not examined", "clean")
    return order.index(check["status"]) if check.get("status") in order else len(order)


def _check(check: dict[str, Any]) -> tuple[str, str, str]:
    status = check.get("status") or MISSING
    return check.get("symptom") or "", status, check.get("reason") or ""


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    loss = dig(report, "loss", "value")
    facts = (
        ("model", dig(report, "model", "name")),
        ("class", dig(report, "model", "class")),
        ("layers", _maybe(dig(report, "model", "num_layers"))),
        ("parameters", _maybe(dig(report, "model", "num_params"))),
        ("samples", _maybe(dig(report, "data", "num_samples"))),
        ("loss", f"{dig(report, 'loss', 'name') or ''} {number(loss)}".strip()),
    )
    return [(name, value) for name, value in facts if value]


def _maybe(value: float | None) -> str | None:
    return None if value is None else number(value)


def _finding(finding: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    rows = items(report, "layers")
    evidence = items(finding, "evidence")
    culprits = items(finding, "culprits")
    victims = [name for name in items(finding, "layers") if name not in set(culprits)]
    return {
        "symptom": finding.get("symptom") or "",
        "severity": finding.get("severity") or "error",
        "confidence": finding.get("confidence") or "unstated",
        "message": finding.get("message") or "",
        "culprits": named(culprits, rows),
        "victims": named(victims, rows),
        "evidence": [_evidence(e) for e in evidence[:_MAX_EVIDENCE]],
        "more_evidence": max(0, len(evidence) - _MAX_EVIDENCE),
        "persistence": _PERSISTENCE.get(finding.get("persistence") or ""),
        "treatments": items(finding, "treatments"),
    }


def _evidence(evidence: dict[str, Any]) -> tuple[str, ...]:
    return (
        evidence.get("statistic") or "",
        number(evidence.get("observed")),
        number(evidence.get("threshold")),
        evidence.get("unit") or "",
        evidence.get("layer") or "",
    )


def _prescription(prescription: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    parameters = (prescription.get("parameters") or {}).items()
    return {
        "treatment": prescription.get("treatment") or "",
        "safety": prescription.get("safety") or "unstated",
        "layers": named(items(prescription, "layers"), items(report, "layers")),
        "parameters": ", ".join(f"{name} = {_text(value)}" for name, value in parameters),
        "resolves": items(prescription, "resolves"),
        "rationale": prescription.get("rationale") or "",
        "snippet": prescription.get("snippet") or "",
    }


def _trial(trial: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, _text(value)) for name, value in trial.items() if value is not None]


def _text(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _layers(report: dict[str, Any], opinion: Verdict) -> list[dict[str, Any]]:
    rows = items(report, "layers")
    culprits = positions(opinion.culprits, rows)
    affected = positions((n for f in items(report, "findings") for n in items(f, "layers")), rows)
    return [
        {
            "name": name,
            "role": "culprit" if i in culprits else "affected" if i in affected else "",
            "cells": _cells(row),
            "statistics": _statistics(row),
        }
        for i, (name, row) in enumerate(zip(labels(rows), rows, strict=True))
    ]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row.get("class") or MISSING,
        number(row.get("call")),
        row.get("activation") or MISSING,
        number(dig(row, "output", "rms")),
        number(dig(row, "activation_gradient", "rms")),
        number(dig(row, "backward", "activation_factor")),
        number(dig(row, "backward", "weight_factor")),
        percent(row.get("saturated_fraction")),
        percent(row.get("dead_fraction")),
        number(row.get("update_ratio")),
    )


def _statistics(row: dict[str, Any]) -> str:
    """All other numbers of a row as tabbed text: a tenth of a table's elements at 1,000 layers."""
    present = [(role, row[role]) for role in _ROLES if row.get(role)]
    table = [_line("", _STATS)] if present else []
    table += [
        _line(role.replace("_", " "), [number(stats.get(key)) for key in _STATS.values()])
        for role, stats in present
    ]
    facts = {
        "depth": row.get("depth"),
        "inputs": ", ".join(items(row, "inputs")) or None,
        "output shape": row.get("output_shape"),
        "dtype": row.get("compute_dtype"),
        "trainable": row.get("trainable"),
        "backward gain": dig(row, "backward", "gain"),
        "dead units": row.get("num_dead"),
        "units": row.get("num_units"),
        "saturated gates": row.get("gate_saturated_fraction"),
        "max derivative": row.get("max_derivative"),
        "half-life in steps": dig(row, "timesteps", "half_life"),
    }
    return "\n".join([*table, _joined(facts), *(_weight(w) for w in items(row, "weights"))])


def _line(role: str, cells: Iterable[str]) -> str:
    """Two tab stops of the style sheet for the role, one for each cell."""
    return role.ljust(24) + "\t".join(cells)


def _weight(weight: dict[str, Any]) -> str:
    facts = {
        "shape": weight.get("shape"),
        "trainable": weight.get("trainable"),
        "reached": weight.get("reached"),
        "initializer": weight.get("initializer"),
        "fan in": weight.get("fan_in"),
        "fan out": weight.get("fan_out"),
        "distinct units": weight.get("num_distinct_units"),
        "rms": dig(weight, "value", "rms"),
        "gradient rms": dig(weight, "gradient", "rms"),
        "update rms": dig(weight, "update", "rms"),
        "update ratio": weight.get("update_ratio"),
    }
    return f"{weight.get('path')}: {_joined(facts)}"


def _joined(facts: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {_text(value)}"
        for name, value in facts.items()
        if value is not None
    )


def _recipe(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What it takes to get the same numbers again."""
    model, data, loss = (report.get(key) or {} for key in ("model", "data", "loss"))
    versions = ", ".join(f"{name} {v}" for name, v in (report.get("versions") or {}).items())
    bounds = ", ".join(f"{id} = {v:g}" for id, v in (report.get("thresholds") or {}).items())
    rows = (
        ("command", report.get("command")),
        ("versions", versions),
        ("thresholds set by hand", bounds),
        ("seed", _maybe(report.get("seed"))),
        ("optimizer steps before measuring", _maybe(report.get("steps"))),
        ("model", _joined({k: v for k, v in model.items() if k != "name"})),
        ("data", _joined({k: v for k, v in data.items() if k != "note"})),
        ("note on the data", data.get("note")),
        ("loss", f"{loss.get('name') or ''} {number(loss.get('value'))}".strip()),
        ("note on the loss", loss.get("note")),
        ("schema", report.get("schema")),
    )
    return [(name, value) for name, value in rows if value]
