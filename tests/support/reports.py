"""Synthetic reports of trials, watched trainings and branching models, for pages and pictures."""

from __future__ import annotations

import dataclasses
import math
import random

from gradscope.records import (
    Arm,
    Check,
    Checkpoint,
    Curve,
    Death,
    Event,
    History,
    Run,
    Snapshot,
    Trial,
    Validation,
)
from gradscope.report.report import Report
from tests.support.factories import (
    finding,
    healthy_report,
    layer,
    report,
    sick_sigmoid_report,
    stats,
)


def _run(seed: int, learns: bool, steps: int) -> Run:
    noise = random.Random(seed)
    gain = 2.1 if learns else 0.02
    losses = tuple(
        2.3 - gain * (1 - math.exp(-i / 60)) + noise.gauss(0, 0.04) for i in range(steps)
    )
    checkpoints = tuple(
        Checkpoint(
            step, losses[min(step, steps - 1)], 0.1 + 0.4 * gain * (1 - math.exp(-step / 60))
        )
        for step in range(0, steps + 1, steps // 10)
    )
    return Run(seed, steps, losses, checkpoints, diverged=False, seconds=1.0)


def trial(steps: int = 200, seeds: tuple[int, ...] = (0, 1, 2)) -> Trial:
    """Twenty sigmoid layers before, twenty ReLU layers after: it learns."""
    before = Arm(
        tuple(_run(s, False, steps) for s in seeds),
        (finding("vanishing-gradient", ("dense_0",)),),
        tuple(0.4 * 10 ** (-0.6 * (19 - i)) for i in range(20)),
    )
    after = Arm(tuple(_run(s + 10, True, steps) for s in seeds), (), (0.4,) * 20)
    after = dataclasses.replace(
        after,
        runs=tuple(dataclasses.replace(r, seed=s) for r, s in zip(after.runs, seeds, strict=True)),
    )
    return Trial(
        treatments=("swap-activation",),
        seeds=seeds,
        steps=steps,
        before=before,
        after=after,
        verdict="improved",
        batch_size=32,
        measure="accuracy",
        difference=0.78,
        minimum_difference=0.02,
        p_value=0.0004,
        reason="Accuracy on held-out samples rose by 0.78 for all 3 seeds (p = 0.0004).",
    )


def trial_report() -> Report:
    """The sick report with its first prescription tried."""
    return dataclasses.replace(sick_sigmoid_report(), trials=(trial(),))


def treated_report() -> Report:
    """The sick report after a treatment that kept the second of its prescriptions."""
    sick = sick_sigmoid_report()
    kept = dataclasses.replace(sick.prescriptions[0], treatment="he-initialization", snippet="he()")
    tried = dataclasses.replace(trial(), treatments=(kept.treatment,))
    return dataclasses.replace(
        sick,
        prescriptions=(*sick.prescriptions, kept),
        trials=(tried,),
        outcome="improved",
        kept=(kept,),
    )


def trial_only_report() -> Report:
    """A trial and nothing measured."""
    return dataclasses.replace(report((), checks=()), trials=(trial(seeds=(0,)),))


def _curve(values: list[float | None], bin_size: int) -> Curve:
    groups = [values[i : i + bin_size] for i in range(0, len(values), bin_size)]
    known = [[v for v in g if v is not None] for g in groups]
    return Curve(
        steps=tuple(min((i + 1) * bin_size, len(values)) for i in range(len(groups))),
        mean=tuple(math.fsum(g) / len(g) if g else None for g in known),
        minimum=tuple(min(g, default=None) for g in known),
        maximum=tuple(max(g, default=None) for g in known),
        num_non_finite=tuple(len(g) - len(k) for g, k in zip(groups, known, strict=True)),
    )


def _snapshot(step: int, depth: int) -> Snapshot:
    """Gradients that grow, and ReLU layers in the middle that die from step 256 on."""
    rows = []
    for i in range(depth):
        dying = 0.2 <= i / depth < 0.5 and step >= 256
        signal = 0.02 * (1 + step / 400) * 10 ** (-(depth - 1 - i) / depth)
        dead = min(0.9, (step - 192) / 600) if dying else 0.0
        rows.append(
            layer(
                f"dense_{i}",
                signal * (1 - dead),
                depth=i + 1,
                dead_fraction=dead,
                output=dataclasses.replace(stats(0.5 + step / 2000), mean=0.3 + step / 4000),
            )
        )
    loss = 2.3 * math.exp(-step / 300)
    return Snapshot(step, step // 160, loss, 0.8, tuple(rows))


def history(num_steps: int = 640, depth: int = 10) -> History:
    """A run in which units die and the loss leaps, with NaN at the end."""
    noise = random.Random(0)
    losses: list[float | None] = [
        2.3 * math.exp(-i / 300) + noise.gauss(0, 0.05) + (1.5 if 400 <= i < 420 else 0.0)
        for i in range(num_steps - 4)
    ]
    losses += [None] * 4
    norms = [
        0.8 + abs(noise.gauss(0, 0.2)) + (40 if 400 <= i < 406 else 0) for i in range(num_steps)
    ]
    epochs = tuple(range(160, num_steps + 1, 160))
    return History(
        num_steps=num_steps,
        num_planned_steps=1600,
        epoch_ends=epochs,
        loss=_curve(losses, 4),
        gradient_norm=_curve(list(norms), 4),
        learning_rate=_curve([1e-3 * 0.5 ** (i // 160) for i in range(num_steps)], 4),
        validation=tuple(
            Validation(step, i, 2.4 * math.exp(-step / 320)) for i, step in enumerate(epochs)
        ),
        snapshots=tuple(_snapshot(step, depth) for step in range(0, num_steps + 1, 64)),
        deaths=(Death("dense_2", 256, 6), Death("dense_3", 320, 11), Death("dense_4", 320, 9)),
        events=(
            Event(256, "dead-relu", "found", "6 units of dense_2 died."),
            Event(402, "gradient-spike", "found", "The gradient was 40 times its median."),
            Event(420, "gradient-spike", "gone", "The gradient is as before."),
        ),
    )


def history_report(depth: int = 10) -> Report:
    """The last snapshot of a watched run, its findings and its history."""
    watched = history(depth=depth)
    found = finding("dead-relu", ("dense_2", "dense_3", "dense_4"), severity="warning")
    return report(watched.snapshots[-1].layers, (found,), history=watched)


def history_only_report() -> Report:
    """A watched run of which no snapshot was taken."""
    bare = dataclasses.replace(history(), snapshots=(), deaths=())
    return report((), checks=(Check("loss-plateau", "clean"),), history=bare)


def residual_report(blocks: int = 6) -> Report:
    """Residual blocks of two layers, one of which passes nothing, beside a side branch."""
    rows = [layer("stem", 0.02, depth=1)]
    before = "stem:0"
    for b in range(blocks):
        blocked = b == blocks // 2
        names = (f"block_{b}/first", f"block_{b}/second")
        signal = 0.0 if blocked else 0.01
        rows.append(layer(names[0], signal, depth=2 + b, inputs=(before,)))
        rows.append(layer(names[1], signal, depth=3 + b, inputs=(f"{names[0]}:0",)))
        joined = f"block_{b}/add"
        rows.append(
            layer(joined, 0.02, depth=3 + b, class_="Add", inputs=(f"{names[1]}:0", before))
        )
        before = f"{joined}:0"
    side = layer("side", 30.0, depth=2, inputs=("stem:0",))
    head = layer("head", 0.02, depth=4 + blocks, inputs=(before, "side:0"))
    return report((*rows, side, head))


def many_findings_report(count: int = 18) -> Report:
    """As many findings as there are symptoms, of all severities."""
    levels = ("error", "warning", "info")
    found = tuple(
        finding(f"symptom-{i}", (f"dense_{i % 5}",), severity=levels[i % 3]) for i in range(count)
    )
    return report(healthy_report().layers, found)


def long_names_report() -> Report:
    """Names of 200 characters without a place to break."""
    rows = tuple(layer(f"{'encoder' * 28}_{i}", 0.01, depth=i + 1) for i in range(6))
    return report(rows, (finding("vanishing-gradient", tuple(r.path for r in rows)),))


REPORTS = (
    trial_report,
    treated_report,
    trial_only_report,
    history_report,
    history_only_report,
    residual_report,
    many_findings_report,
    long_names_report,
)


def squeeze(text: str) -> str:
    return "".join(text.split())
