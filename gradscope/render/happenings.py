"""Trials and training runs in a few lines, for the forms of the report that have no pictures."""

from __future__ import annotations

from typing import Any

from gradscope.messages import name_measure
from gradscope.render.values import capitalize, dig, in_words, items, number, plural

_MAX_EVENTS = 12


def describe_measure(measure: str | None) -> str:
    """What scores of a trial or a rehearsal are called, and on which samples a loss is measured."""
    return "held-out loss" if measure == "loss" else name_measure(measure or "score")


def trial_title(trial: dict[str, Any]) -> str:
    """The treatments that were tried together."""
    return " + ".join(items(trial, "treatments")) or "before against after"


def list_results(trial: dict[str, Any], side: str) -> list[tuple[int, float | None]]:
    """(seed, last result in the trial's measure) of every run of one side."""
    is_held_out = is_judged_held_out(trial)
    return [
        (run.get("seed") or 0, _last_result(run, trial) if is_held_out else _last_loss(run))
        for run in items(trial, side, "runs")
    ]


def is_judged_held_out(trial: dict[str, Any]) -> bool:
    """Whether on held-out samples: some models compute a loss in their own `train_step` only."""
    runs = [run for side in ("before", "after") for run in items(trial, side, "runs")]
    return trial.get("measure") not in (None, "loss") or any(
        point.get("loss") is not None for run in runs for point in items(run, "checkpoints")
    )


def _last_result(run: dict[str, Any], trial: dict[str, Any]) -> float | None:
    key = "loss" if trial.get("measure") in (None, "loss") else "metric"
    last: float | None = dig((items(run, "checkpoints") or [{}])[-1], key)
    return last


def _last_loss(run: dict[str, Any]) -> float | None:
    losses = items(run, "losses")
    return losses[-1] if losses and not run.get("diverged") else None


def find_proof(report: dict[str, Any], treatments: list[str]) -> dict[str, Any] | None:
    """The trial of just these treatments, or else of these and others."""
    about = [t for t in items(report, "trials") if set(treatments) <= set(items(t, "treatments"))]
    return min(about, key=lambda t: len(items(t, "treatments")), default=None)


def describe_gain(report: dict[str, Any]) -> str | None:
    """What treating the model achieved, with the number; None where it did not improve it."""
    kept = [p.get("treatment") or "" for p in items(report, "kept")]
    trial = find_proof(report, kept)
    if report.get("outcome") != "improved" or not kept or trial is None:
        return None
    what = " + ".join(map(in_words, kept))
    measure = describe_measure(trial.get("measure"))
    if not is_judged_held_out(trial):
        measure = measure.replace("held-out", "training")
    before, after = (_mean([v for _, v in list_results(trial, s)]) for s in ("before", "after"))
    seeds = plural(len(items(trial, "seeds")), "seed")
    if trial.get("verdict") != "improved":
        return f"{capitalize(what)}: right in any case, {measure} {after} over {seeds}"
    return f"{capitalize(what)}: {measure} {before} → {after}, proven over {seeds}"


def _mean(results: list[float | None]) -> str:
    known = [value for value in results if value is not None]
    return number(sum(known) / len(known)) if len(known) == len(results) and known else "NaN"


def trial_outcome(trial: dict[str, Any]) -> str:
    """The verdict, its reason, and how it was found out."""
    runs = (
        f"{plural(len(items(trial, 'seeds')), 'seed')}, {plural(trial.get('steps') or 0, 'step')}"
    )
    reason = capitalize(trial.get("reason") or "")
    return f"{trial.get('verdict') or 'no verdict'} ({runs}). {reason}".strip()


def history_lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value: how far the run got, its losses, and what happened on the way."""
    history = report.get("history")
    if not history:
        return []
    planned = history.get("num_planned_steps")
    steps = plural(history.get("num_steps") or 0, "step")
    lines = [("steps", steps + (f" of {number(planned)}" if planned else ""))]
    losses = [loss for loss in items(history, "loss", "mean") if loss is not None]
    if losses:
        lines.append(("loss", f"{number(losses[0])} at the start, {number(losses[-1])} at the end"))
    held_out = items(history, "validation")
    if held_out:
        lines.append(("validation loss", number(held_out[-1].get("loss"))))
    died = sum(death.get("num_units") or 0 for death in items(history, "deaths"))
    if died:
        lines.append(("died", plural(died, "unit")))
    events = items(history, "events")
    lines += [(f"step {number(e.get('step'))}", _event(e)) for e in events[:_MAX_EVENTS]]
    if len(events) > _MAX_EVENTS:
        lines.append(("", f"and {number(len(events) - _MAX_EVENTS)} more events"))
    lines += [("not watched", str(what)) for what in items(history, "unwatched")]
    return lines


def rehearsal_lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value: how a copy, the yardstick and a constant prediction did."""
    rehearsal = report.get("rehearsal")
    if not rehearsal:
        return []
    steps, seconds = plural(rehearsal.get("steps") or 0, "step"), number(rehearsal.get("seconds"))
    ended = _ENDED.get(rehearsal.get("stopped") or "", "")
    lines = [("rehearsed", f"{steps} in {seconds} s{ended}")]
    what = describe_measure(rehearsal.get("measure"))
    where = f" at {rehearsal['output']}" if rehearsal.get("output") else ""
    beside = rehearsal.get("yardstick") or {}
    scores = (
        ("model", rehearsal.get("score"), ""),
        ("yardstick", beside.get("score"), f" ({beside.get('kind')})"),
        ("constant", dig(rehearsal, "constant", "score"), ""),
    )
    lines += [(n, f"{what} {number(v)}{where}{more}") for n, v, more in scores if v is not None]
    if rehearsal.get("reason"):
        lines.append(("no yardstick" if not beside else "not compared", rehearsal["reason"]))
    return lines


_ENDED = {
    "plan": ", all that were planned",
    "seconds": ", until the time limit",
    "not finite": ", until the loss was not finite",
    "failed": ", until a step failed",
}


def _event(event: dict[str, Any]) -> str:
    return f"{dig(event, 'symptom')} {dig(event, 'kind')}: {dig(event, 'message') or ''}"
