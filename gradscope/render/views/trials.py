"""A card a trial: the verdict, the seeds in pairs, and the pictures."""

from __future__ import annotations

from typing import Any

from gradscope.render.happenings import describe_measure, list_results, trial_title
from gradscope.render.pictures.trials import trial_pictures
from gradscope.render.values import capitalize, in_words, items, maybe, number

_LEVELS = {"improved": "healthy", "worse": "error", "not improved": "warning"}


def trials(report: dict[str, Any]) -> list[dict[str, Any]]:
    """In the report's order."""
    return [_trial(trial) for trial in items(report, "trials")]


def judgement(trial: dict[str, Any]) -> dict[str, Any]:
    """What came of it, without seeds and pictures."""
    verdict = trial.get("verdict") or "no verdict"
    return {
        "verdict": verdict,
        "level": _LEVELS.get(verdict, "info"),
        "reason": capitalize(trial.get("reason") or ""),
    }


def _trial(trial: dict[str, Any]) -> dict[str, Any]:
    return {
        **judgement(trial),
        "title": trial_title(trial),
        "facts": _facts(trial),
        "measure": describe_measure(trial.get("measure")),
        "seeds": _seeds(trial),
        "resolved": _compare_symptoms(trial),
        "pictures": trial_pictures(trial),
    }


def _facts(trial: dict[str, Any]) -> list[tuple[str, str]]:
    every = (
        ("measure", describe_measure(trial.get("measure"))),
        ("mean difference", maybe(trial.get("difference"))),
        ("smallest that counts", maybe(trial.get("minimum_difference"))),
        ("p-value", None if trial.get("p_value") is None else f"{trial['p_value']:.2g}"),
        ("seeds", ", ".join(map(number, items(trial, "seeds")))),
        ("steps per run", maybe(trial.get("steps"))),
        ("batch size", maybe(trial.get("batch_size"))),
        ("note", trial.get("note")),
    )
    return [(name, value) for name, value in every if value]


def _seeds(trial: dict[str, Any]) -> list[tuple[str, str, str]]:
    after = dict(list_results(trial, "after"))
    return [
        (number(seed), _result(value), _result(after.get(seed)))
        for seed, value in list_results(trial, "before")
    ]


def _result(value: float | None) -> str:
    return "not finite" if value is None else number(value)


def _compare_symptoms(trial: dict[str, Any]) -> tuple[list[str], list[str]] | None:
    """Symptoms of both sides as they start, where they were examined."""
    before, after = (
        list(dict.fromkeys(in_words(f.get("symptom")) for f in items(trial, side, "findings")))
        for side in ("before", "after")
    )
    return (before, after) if before or after else None
