"""Synthetic reports with closed-form numbers: no model, no TensorFlow, milliseconds."""

from __future__ import annotations

import math
from typing import Any

from gradscope.records import (
    BackwardFactors,
    Check,
    DataCard,
    Evidence,
    Finding,
    Histogram,
    LayerProfile,
    LossCard,
    ModelCard,
    Prescription,
    TensorStats,
    Timesteps,
    WeightProfile,
)
from gradscope.report.report import Report

# Share of a normal variable's magnitudes in octaves, the last one reaching to 4 sigma.
_OCTAVES = (0.012, 0.025, 0.05, 0.099, 0.188, 0.299, 0.272, 0.046)

HOSTILE_NAMES = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "'; alert(1); //",
    "two\nlines\r\nand a\ttab",
    "\x1b[31mred\x1b[0m\x07\x00",
    "[bold red]markup[/bold red] :boom:",
    "{{ 7 * 7 }}{% raw %}",
    "right\u202eto left\u2028separator",
    "</style></svg></title>&amp;",
    "100%,a:b::error::c",
    "half a surrogate \ud800",
)


def stats(rms: float, count: int = 4096, zero_fraction: float = 0.0) -> TensorStats:
    """Statistics of `count` entries of mean 0, normal but for the share that is zero."""
    top = math.floor(math.log2(rms)) + 2 if rms > 0 else 0
    filled = count * (1 - zero_fraction) if rms > 0 else 0
    return TensorStats(
        count=count,
        finite_fraction=1.0,
        mean=0.0,
        std=rms,
        rms=rms,
        l2_norm=rms * math.sqrt(count),
        abs_max=4 * rms,
        zero_fraction=zero_fraction if rms > 0 else 1.0,
        histogram=Histogram(top - len(_OCTAVES), tuple(round(filled * s) for s in _OCTAVES))
        if rms > 0
        else Histogram(),
    )


def weight(path: str, rms: float, gradient_rms: float, units: int = 64) -> WeightProfile:
    """A trained kernel of `units` x `units`."""
    return WeightProfile(
        path=path,
        shape=(units, units),
        trainable=True,
        reached=True,
        initializer="GlorotUniform",
        fan_in=float(units),
        fan_out=float(units),
        num_distinct_units=units,
        value=stats(rms),
        gradient=stats(gradient_rms),
        update=stats(gradient_rms * 1e-2),
        update_ratio=gradient_rms * 1e-2 / rms,
    )


def layer(
    path: str,
    signal: float,
    *,
    activation: str | None = "relu",
    factors: tuple[float, float] = (0.7, 1.4),
    depth: int = 0,
    saturated: float | None = 0.0,
    **fields: Any,
) -> LayerProfile:
    """A Dense row: `signal` is rms(dL/d output), `factors` activation and weight factor."""
    activation_factor, weight_factor = factors
    preactivation_rms = signal * activation_factor
    kernel_rms = 0.125
    row: dict[str, Any] = {
        "path": path,
        "class_": "Dense",
        "call": 0,
        "activation": activation,
        "trainable": True,
        "depth": depth,
        "output_shape": (None, 64),
        "input": stats(0.6),
        "preactivation": stats(0.8),
        "output": stats(0.5, zero_fraction=0.5 if activation == "relu" else 0.0),
        "input_gradient": stats(preactivation_rms * weight_factor),
        "preactivation_gradient": stats(preactivation_rms),
        "activation_gradient": stats(signal),
        "kernel": stats(kernel_rms),
        "kernel_gradient": stats(preactivation_rms * 0.5),
        "update": stats(preactivation_rms * 5e-3),
        "backward": BackwardFactors(*factors, math.prod(factors)),
        "saturated_fraction": saturated,
        "dead_fraction": 0.0 if activation == "relu" else None,
        "update_ratio": preactivation_rms * 5e-3 / kernel_rms,
        "weights": (weight(f"{path}/kernel", kernel_rms, preactivation_rms * 0.5),),
    }
    return LayerProfile(**{**row, **fields})


def finding(symptom: str, culprits: tuple[str, ...], **fields: Any) -> Finding:
    """A finding of high confidence whose affected layers are its culprits."""
    values: dict[str, Any] = {
        "symptom": symptom,
        "severity": "error",
        "confidence": "high",
        "layers": culprits,
        "culprits": culprits,
        "evidence": (Evidence("slope", -0.86, -0.15, "decades per layer"),),
        "message": f"A message about {symptom}.",
        "treatments": ("swap-activation", "he-initialization"),
        "persistence": "stays",
    }
    return Finding(**{**values, **fields})


def report(
    layers: tuple[LayerProfile, ...],
    findings: tuple[Finding, ...] = (),
    **fields: Any,
) -> Report:
    """A whole report; checks follow from the findings, with one clean and one not examined."""
    found = tuple(Check(symptom, "found") for symptom in sorted({f.symptom for f in findings}))
    values: dict[str, Any] = {
        "model": ModelCard("mlp", "Sequential", len(layers), 4160 * len(layers), None, "SGD", 0.01),
        "data": DataCard("arrays", 128, 4),
        "loss": LossCard("categorical_crossentropy", 2.31),
        "layers": layers,
        "checks": (
            *found,
            Check("signal-explosion", "clean"),
            Check("loss-plateau", "not examined", "Needs the history of a Monitor."),
        ),
        "findings": findings,
        "seed": 7,
        "versions": {"gradscope": "0.1.0", "keras": "3.15.0", "tensorflow": "2.21.0"},
        "command": "gradscope inspect mlp.keras --data train.npz",
    }
    return Report(**{**values, **fields})


def _chain(depth: int, top: float, factors: tuple[float, float], **fields: Any) -> tuple:
    gain = factors[0] * factors[1]
    return tuple(
        layer(
            f"dense_{i}",
            top * gain ** (depth - 1 - i),
            factors=factors,
            depth=i + 1,
            inputs=(f"dense_{i - 1}:0",) if i else (),
            **fields,
        )
        for i in range(depth)
    )


def sick_sigmoid_report(depth: int = 20) -> Report:
    """Sigmoid layers that each lose 0.86 decades of the gradient; the head is healthy."""
    layers = _chain(depth, 0.03, (0.21, 0.65), activation="sigmoid", saturated=0.12)
    names = tuple(row.path for row in layers[:-1])
    evidence = (
        Evidence("slope of the backward signal", -0.86, -0.15, "decades per layer"),
        Evidence("activation factor", 0.21, 0.5, "", names[0]),
    )
    vanishing = finding(
        "vanishing-gradient",
        names,
        evidence=evidence,
        message=f"{names[0]} to {names[-1]} each shrink the gradient 7 times.",
    )
    slow = finding("learning-speed-imbalance", names[:2], severity="warning", persistence="start")
    prescription = Prescription(
        treatment="swap-activation",
        layers=names,
        parameters={"activation": "relu"},
        safety="unsafe",
        resolves=("vanishing-gradient",),
        rationale="A sigmoid passes at most a quarter of the gradient; a ReLU passes all of it.",
        snippet='for name in names:\n    model.get_layer(name).activation = "relu"',
    )
    return report(layers, (slow, vanishing), prescriptions=(prescription,))


def healthy_report() -> Report:
    """Five ReLU layers with a level gradient."""
    return report(_chain(5, 0.02, (0.7, 1.4)))


def recurrent_report() -> Report:
    """One LSTM whose gradient halves every two steps back in time, and a head."""
    back_in_time = tuple(0.01 * 0.5 ** ((49 - t) / 2) for t in range(50))
    rows = (
        layer(
            "lstm",
            0.02,
            activation="tanh",
            class_="LSTM",
            gate_saturated_fraction=0.4,
            timesteps=Timesteps(back_in_time, (0.7071,) * 49, 2.0),
        ),
        layer("head", 0.02, activation="softmax", depth=1),
    )
    return report(rows, (finding("vanishing-through-time", ("lstm",)),))


def deep_report(depth: int = 1000) -> Report:
    """A long chain that vanishes, with a dead stretch and as much evidence as layers."""
    layers = tuple(
        layer(
            f"block_{i // 10}/dense_{i}",
            0.03 * 10 ** (-30 * (1 - i / depth)) if i % 97 else 0.0,
            depth=i + 1,
            inputs=(f"block_{(i - 1) // 10}/dense_{i - 1}:0",) if i else (),
            dead_fraction=1.0 if i % 97 == 0 else 0.25,
        )
        for i in range(depth)
    )
    names = tuple(row.path for row in layers)
    evidence = tuple(Evidence("slope", -0.86, -0.15, "decades per layer", n) for n in names)
    return report(
        layers,
        (
            finding("vanishing-gradient", names, evidence=evidence),
            finding("dead-relu", names[::97], severity="warning"),
        ),
    )


def hostile_names_report() -> Report:
    """Layer names, ids and messages that try to become markup, code or control sequences."""
    rows = tuple(layer(name, 0.01, depth=i) for i, name in enumerate(HOSTILE_NAMES))
    evidence = tuple(Evidence(n, 1.0, 2.0, n, n) for n in HOSTILE_NAMES)
    found = tuple(
        finding(f"symptom-{i}", (n,), evidence=evidence, message=f"About {n}.", treatments=(n,))
        for i, n in enumerate(HOSTILE_NAMES)
    )
    recipes = tuple(
        Prescription(n, (n,), {n: n}, "advice", (f"symptom-{i}",), n, f"code('{n}')")
        for i, n in enumerate(HOSTILE_NAMES)
    )
    name = HOSTILE_NAMES[0]
    return report(
        rows,
        found,
        prescriptions=recipes,
        model=ModelCard(name, name, len(rows), 1, name, name),
        command=name,
        versions={name: name},
    )


def blank_report() -> dict[str, Any]:
    """Plain data of a report in which every optional value is None and most keys are missing."""
    return {
        "model": {"name": None},
        "data": None,
        "loss": {"name": "mse", "value": None},
        "layers": [
            {"path": "a", "class": "Dense", "call": 0, "activation_gradient": None},
            {"path": "b", "kernel": None, "backward": None, "timesteps": None, "weights": None},
            {"path": "c", "backward": {"gain": None}, "output": {"rms": None}},
        ],
        "checks": [{"symptom": "dead-relu", "status": "not examined"}],
        "findings": [
            {
                "symptom": "non-finite-values",
                "severity": "error",
                "layers": ["a", "gone"],
                "evidence": [{"statistic": "finite share", "observed": None}],
                "message": "The output of a is not finite.",
            }
        ],
        "trials": None,
    }
