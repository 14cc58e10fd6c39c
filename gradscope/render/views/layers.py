"""The table of layers; the rest of a row's numbers are text that the script turns into pictures.

Text keeps a page of 1,000 layers small and readable without the script: parts are parted by empty
lines, cells by tabs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradscope.render.pictures.flow import read_signal
from gradscope.render.values import (
    MISSING,
    dig,
    items,
    join_facts,
    labels,
    number,
    percent,
    positions,
)

COLUMNS = (
    ("class", ""),
    ("activation", ""),
    ("gradient", "L2 norm of dL/d output"),
    ("activation factor", "what its activation multiplies the gradient by"),
    ("weight factor", "what its weights multiply the gradient by"),
    ("update ratio", "fraction of its norm that the kernel changes per step"),
    ("saturated", "share of pre-activations"),
    ("dead", "share of units"),
    ("output", "rms"),
)
_STATS = {
    "count": "count",
    "mean": "mean",
    "std": "std",
    "rms": "rms",
    "L2 norm": "l2_norm",
    "largest": "abs_max",
    "zero": "zero_fraction",
    "finite": "finite_fraction",
}
_ROLES = {
    "input": "input",
    "preactivation": "preactivation",
    "output": "output",
    "input_gradient": "dL/d input",
    "preactivation_gradient": "dL/d preactivation",
    "activation_gradient": "dL/d output",
    "kernel": "kernel",
    "kernel_gradient": "dL/d kernel",
    "update": "update",
}
_DRAWN = ("activation_gradient", "output", "kernel_gradient", "kernel")
_MAX_TIMESTEPS = 200


def layers(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a layer call, in forward order."""
    rows = items(report, "layers")
    culprits, affected = (
        positions((n for f in items(report, "findings") for n in items(f, key)), rows)
        for key in ("culprits", "layers")
    )
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
        row.get("activation") or MISSING,
        number(read_signal(row)),
        number(dig(row, "backward", "activation_factor")),
        number(dig(row, "backward", "weight_factor")),
        number(row.get("update_ratio")),
        percent(row.get("saturated_fraction")),
        percent(row.get("dead_fraction")),
        number(dig(row, "output", "rms")),
    )


def _statistics(row: dict[str, Any]) -> str:
    # What comes in is what the layers before it put out.
    roles = {k: v for k, v in _ROLES.items() if k != "input" or not items(row, "inputs")}
    present = [(name, row[role]) for role, name in roles.items() if row.get(role)]
    # All of 1,000 layers have to fit: what is as it always is goes without saying.
    odd = any(stats.get("finite_fraction") != 1 for _, stats in present)
    columns = {k: v for k, v in _STATS.items() if odd or k != "finite"}
    table = ["\t".join(["statistics", *columns])] if present else []
    for name, stats in present:
        table.append("\t".join([name, *(number(stats.get(key)) for key in columns.values())]))
    facts = {
        "depth": row.get("depth"),
        "inputs": ", ".join(items(row, "inputs")) or None,
        "added to": ", ".join(items(row, "added_to")) or None,
        "output shape": row.get("output_shape"),
        "dtype": None if row.get("compute_dtype") == "float32" else row.get("compute_dtype"),
        "trainable": None if row.get("trainable") else "no",
        "backward gain": dig(row, "backward", "gain"),
        "dead units": row.get("num_dead"),
        "units": row.get("num_units"),
        "saturated gates": row.get("gate_saturated_fraction"),
        "max derivative": row.get("max_derivative"),
        "sample variation": row.get("sample_variation"),
        "float16 underflow": row.get("underflow_fraction"),
        "half-life in steps": dig(row, "timesteps", "half_life"),
    }
    weights = [f"{w.get('path')}\t{_weight(w)}" for w in items(row, "weights")]
    known = join_facts(facts)
    parts = (
        table,
        ["facts", known] if known else [],
        ["weights", *weights] if weights else [],
        _histograms(row),
        _timesteps(row),
    )
    return "\n\n".join("\n".join(part) for part in parts if part)


def _histograms(row: dict[str, Any]) -> list[str]:
    lines = [
        f"{_ROLES[role]}\tfrom 2^{dig(row, role, 'histogram', 'first_exponent') or 0}\t"
        + " ".join(_per_mille(items(row, role, "histogram", "counts")))
        for role in _DRAWN
        if items(row, role, "histogram", "counts")
    ]
    return [
        "histograms: per mille of entries an octave",
        *lines,
    ] * bool(lines)


def _per_mille(counts: list[int]) -> Iterable[str]:
    total = sum(counts) or 1
    return (str(max(1, round(1000 * count / total)) if count else 0) for count in counts)


def _timesteps(row: dict[str, Any]) -> list[str]:
    curve = items(row, "timesteps", "gradient_rms")
    step = -(-len(curve) // _MAX_TIMESTEPS) or 1
    values = " ".join(number(value) for value in curve[::step])
    each = "each" if step == 1 else f"one in {step} of the"
    title = f"rms of dL/dh at {each} time step{'' if step == 1 else 's'}, from the first"
    return [title, values] if curve else []


def _weight(weight: dict[str, Any]) -> str:
    facts = {
        "shape": weight.get("shape"),
        "trainable": None if weight.get("trainable") else "no",
        "reached by the loss": None if weight.get("reached") else "no",
        "initializer": weight.get("initializer"),
        "fan in": weight.get("fan_in"),
        "fan out": weight.get("fan_out"),
        "distinct units": weight.get("num_distinct_units"),
        "rms": dig(weight, "value", "rms"),
        "gradient rms": dig(weight, "gradient", "rms"),
        "update ratio": weight.get("update_ratio"),
    }
    return join_facts(facts)
