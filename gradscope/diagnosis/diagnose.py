"""Profile -> findings, and for every symptom how its examination ended."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gradscope.arguments import as_ids
from gradscope.errors import UsageError
from gradscope.messages import show, unknown
from gradscope.records import Check, Finding, Profile, Skipped
from gradscope.signals.losses import SLOWNESS
from gradscope.symptoms import Symptom, registry
from gradscope.thresholds import Threshold

FIRST = "non-finite-values"  # while it is there, nothing else can be judged
DATA = "non-finite-data"  # it explains all others; examined before them
PAIRING = "mismatched-loss"  # judged by head, loss and labels, whatever the numbers are
BEHIND = "underfitting"
_EFFECTS = {BEHIND, "loss-plateau"}  # say that the model does not learn, not why
DIVERGENCE = "loss-divergence"
_RUN_AWAY = 1000.0  # times the first loss
FLOW = ("vanishing-gradient", "exploding-gradient")
SYMMETRY = "symmetric-initialization"  # judged a few steps after the start only
IN_PREDICTIONS = "train-inference-gap"
OF_THE_START = "mismatched-initialization"  # weights that were trained say nothing of it
# By cause: what follows from it where both start at the same layer. Outputs that the loss cuts off
# get no gradient, and units that are off hand on neither a gradient nor a signal.
_FOLLOWS = {
    "unembedded-ids": (
        *("unscaled-inputs", "saturated-activation", "saturated-gates", "dead-relu"),
        *("signal-explosion", "learning-rate-too-high"),
    ),
    "single-value-normalization": (
        *("disconnected-layer", "dead-relu", "vanishing-gradient", "vanishing-through-time"),
        *("signal-collapse", "train-inference-gap", "learning-speed-imbalance"),
    ),
    "mismatched-loss": ("disconnected-layer", "vanishing-gradient"),
    "learning-rate-too-high": ("dead-relu",),
    "disconnected-layer": ("vanishing-gradient", "learning-speed-imbalance"),
    "dead-relu": ("vanishing-gradient", "signal-collapse", "learning-speed-imbalance"),
}
# By cause: what is no graver than it where both start at the same layer.
_BRINGS = {"unscaled-inputs": ("saturated-activation", "saturated-gates")}
_OF_TRAINING = 180  # the precedence of what slows a training, and does not keep it from succeeding
_ORDER = {"error": 0, "warning": 1, "info": 2}


def choose_symptoms(
    select: Collection[str] | None, ignore: Collection[str] | None
) -> list[Symptom]:
    """The symptoms to examine, `non-finite-data` and `non-finite-values` first.

    Raises:
        UsageError: an id that no symptom has, near ones are named; or nothing is left to examine.
    """
    known = registry()
    select, ignore = as_ids(select), as_ids(ignore)
    for id in (*select, *ignore):
        if id not in known:
            raise UsageError(unknown("symptom", id, known, "See 'gradscope symptoms'."))
    symptoms = [s for s in known.values() if (not select or s.id in select) and s.id not in ignore]
    if not symptoms:
        raise UsageError("No symptom is left to examine. Select others, or ignore fewer.")
    return sorted(symptoms, key=lambda s: s.precedence)


def overrides(thresholds: Mapping[str, float] | None) -> dict[str, float]:
    """The thresholds a user sets, by id ("<symptom>.<name>"), as floats.

    Raises:
        UsageError: an id that no threshold has (near ones are named), or a value that cannot be.
    """
    if not isinstance(thresholds or {}, Mapping):
        raise UsageError(
            "thresholds must map ids to numbers, as {'dead-relu.warning_fraction': 0.7}. "
            f"Received: {show(thresholds)}."
        )
    known = {t.id: t for symptom in registry().values() for t in symptom.thresholds}
    found = {}
    for id, value in (thresholds or {}).items():
        if id not in known:
            raise UsageError(unknown("threshold", id, known, "See 'gradscope thresholds'."))
        found[id] = _bound(known[id], value)
    return found


def _bound(threshold: Threshold, value: Any) -> float:
    bound = _as_float(value)
    is_fraction = threshold.unit == "fraction"
    if 0 <= bound <= 1 if is_fraction else 0 < bound < math.inf:
        return bound
    raise UsageError(
        f"The threshold {threshold.id!r} must be "
        f"{'a number from 0 to 1' if is_fraction else 'a finite number above 0'} "
        f"(it is {threshold.value:g} by default). Received: {show(value)}."
    )


def _as_float(value: Any) -> float:
    """`value` as a float; NaN where it is not a number, infinite where it is too large."""
    # To Python a bool is a number too.
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


Moment = tuple[int, bool]


def moment(profile: Profile) -> Moment | None:
    """Says of a run when judgements of its layers are new: the last snapshot, if NaN is there.

    None where there are no snapshots: then every profile is a measurement of its own.
    """
    history = profile.history
    if history is None or not history.snapshots:
        return None
    is_lost = profile.loss.value is None or profile.non_finite is not None
    return history.snapshots[-1].step, is_lost


class Memory:
    """What was found in the layers of a run's last snapshot, for looks until the next one."""

    def __init__(self) -> None:
        self._of: Moment | None = None
        self._outcomes: dict[tuple[str, bool], Sequence[Finding] | Skipped] = {}

    def examine(
        self, symptom: Symptom, profile: Profile, blocked: bool, thresholds: Mapping[str, float]
    ) -> Sequence[Finding] | Skipped:
        """The outcome for a symptom; looked up where nothing that it depends on has changed."""
        now = moment(profile)
        if now is None or "history" in symptom.needs:
            return _examine(symptom, profile, blocked, thresholds)
        if now != self._of:
            self._of, self._outcomes = now, {}
        key = symptom.id, blocked
        if key not in self._outcomes:
            self._outcomes[key] = _examine(symptom, profile, blocked, thresholds)
        return self._outcomes[key]


def diagnose(
    profile: Profile,
    select: Collection[str] | None = None,
    ignore: Collection[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    memory: Memory | None = None,
) -> tuple[tuple[Finding, ...], tuple[Check, ...]]:
    """Examine every chosen symptom, by `thresholds` (from `overrides`) instead of its own.

    Args:
        memory: of earlier looks at the same run, with the same rules.

    Returns:
        The findings, the most severe first, and one check a symptom: found, clean or not examined.
    """
    findings: list[Finding] = []
    checks: list[Check] = []
    known = memory or Memory()
    blocked = False
    for symptom in choose_symptoms(select, ignore):
        outcome = known.examine(symptom, profile, blocked, thresholds or {})
        if symptom.id == FIRST and not isinstance(outcome, Skipped) and outcome:
            blocked = True
            # With nothing else to blame they came with the data, which is said already.
            origin = profile.non_finite
            from_data = not outcome[0].culprits and (origin is None or origin.cause == "data")
            if any(f.symptom == DATA for f in findings) and from_data:
                outcome = Skipped(
                    FIRST, "the data hold NaN or Inf; remove them first", lacks_data=True
                )
        if isinstance(outcome, Skipped):
            checks.append(Check(symptom.id, "not examined", outcome.reason, outcome.lacks_data))
            continue
        findings += [
            dataclasses.replace(f, treatments=f.treatments or symptom.treatments) for f in outcome
        ]
        checks.append(Check(symptom.id, "found" if outcome else "clean"))
    findings = [_as_grave(finding, findings) for finding in findings]
    findings = [_as_consequence(finding, findings) for finding in findings]
    if _has_run_away(profile) and any(f.symptom == DIVERGENCE for f in findings):
        findings = [_as_end_of_divergence(f) if f.symptom == FIRST else f for f in findings]
    return tuple(sort_findings(findings)), tuple(sorted(checks, key=lambda c: c.symptom))


def _as_consequence(finding: Finding, others: Sequence[Finding]) -> Finding:
    """The finding as a note, where it starts at a layer that another finding explains it by."""
    for other in others:
        follows = finding.symptom in _FOLLOWS.get(other.symptom, ())
        is_graver = _ORDER[finding.severity] < _ORDER[other.severity]
        if (
            follows
            and not is_graver
            and finding.culprits[:1]
            and finding.culprits[0] in other.layers
        ):
            message = f"{finding.message} It follows from {other.symptom}."
            return dataclasses.replace(finding, severity="info", message=message)
    return finding


def _as_grave(finding: Finding, others: Sequence[Finding]) -> Finding:
    """The finding, as grave as the gravest of what it brings about."""
    brought = _BRINGS.get(finding.symptom, ())
    severities = [
        other.severity
        for other in others
        if other.symptom in brought and {*other.culprits} & {*finding.layers}
    ]
    worst = min((finding.severity, *severities), key=lambda severity: _ORDER[severity])
    return dataclasses.replace(finding, severity=worst)


def _has_run_away(profile: Profile) -> bool:
    """Whether the loss grew until numbers overflowed: the end of a divergence, not its cause."""
    origin, history = profile.non_finite, profile.history
    if origin is None or origin.cause != "overflow" or history is None:
        return False
    losses = [value for value in history.loss.maximum if value is not None]
    return bool(losses) and max(losses) >= _RUN_AWAY * abs(losses[0])


def _as_end_of_divergence(finding: Finding) -> Finding:
    message = f"{finding.message} The loss had grown before: it follows from {DIVERGENCE}."
    return dataclasses.replace(finding, severity="warning", message=message)


def reconcile(
    start: Sequence[Finding], later: Sequence[Finding], steps: int
) -> tuple[Finding, ...]:
    """Findings about the gradient flow at the start, judged by what is left some steps later.

    What training removes by itself becomes a note; what only shows once weights that started at
    zero have moved is added, and so are units that are still copies of one another.
    """
    still = {f.symptom for f in later if f.symptom in FLOW}
    kept = []
    for finding in start:
        if finding.symptom not in FLOW:
            kept.append(finding)
        elif finding.symptom in still:
            kept.append(dataclasses.replace(finding, persistence="stays"))
        else:
            message = f"{finding.message} After {steps} steps it is gone without treatment."
            kept.append(
                dataclasses.replace(finding, persistence="start", severity="info", message=message)
            )
    seen = {f.symptom for f in start}
    for finding in later:
        if finding.symptom in FLOW and finding.symptom not in seen:
            message = f"{finding.message} (Seen after {steps} steps; hidden at the start.)"
            kept.append(dataclasses.replace(finding, persistence="stays", message=message))
    kept += [finding for finding in later if finding.symptom == SYMMETRY]
    return tuple(sort_findings(kept))


_NEVER_HARMLESS = (DATA, PAIRING, "disconnected-layer")


def join_rehearsal(
    start: Sequence[Finding],
    layers: Sequence[Finding],
    training: Sequence[Finding],
    *,
    has_learned: bool,
    is_learning: bool,
    steps: int,
) -> tuple[Finding, ...]:
    """The findings of the start and of a rehearsal as one list.

    Where the copy learned about what the data allow, what was found at the start did no harm: it
    becomes a note. Where it did not, what its layers came to in the training is added. While it
    learns, that goes for errors only; a warning has been given time, and was none, and an error of
    the start becomes a warning: it slows the training, if anything. Where the copy learned
    nothing and no error says why, the first warning that may is the suspect, and an error.

    Args:
        start: findings of `analyze`.
        layers: findings about the layers at the end of the rehearsal.
        training: findings of the symptoms that need a training run.
        is_learning: whether it has come half of the way and goes on.
        steps: taken in the rehearsal.
    """
    is_lost = any(f.severity == "error" for f in training)
    suspect = _find_suspect(start, training)
    kept = [_accuse(finding, steps) if finding is suspect else finding for finding in training]
    harmless: tuple[str, ...] = ()
    if not is_lost:
        harmless = ("error", "warning") if has_learned else ("warning",) * is_learning
    for finding in start:
        if finding.severity in harmless and not is_wrong_in_any_case(finding):
            message = f"{finding.message} In a rehearsal of {steps:,} steps it did no harm."
            finding = dataclasses.replace(
                finding, persistence="start", severity="info", message=message
            )
        elif (
            is_learning
            and not is_lost
            and finding.severity == "error"
            and not is_wrong_in_any_case(finding)
        ):
            message = (
                f"{finding.message} In a rehearsal of {steps:,} steps the model still learned."
            )
            finding = dataclasses.replace(finding, severity="warning", message=message)
        elif finding is suspect:
            finding = _accuse(finding, steps)
        kept.append(finding)
    seen = {f.symptom for f in kept}
    # Weights that were thrown off say nothing of how they started; that they were is said already.
    has_diverged = any(f.symptom == DIVERGENCE for f in training)
    for finding in layers:
        # A loss that falls says nothing of what only predictions show.
        spared = () if finding.symptom == IN_PREDICTIONS and not has_learned else harmless
        if finding.symptom == OF_THE_START or (has_diverged and finding.symptom != FIRST):
            continue
        if finding.symptom not in seen and finding.severity not in ("info", *spared):
            message = f"{finding.message} (Seen in a rehearsal of {steps:,} steps.)"
            kept.append(dataclasses.replace(finding, message=message))
    return tuple(sort_findings([_as_consequence(finding, kept) for finding in kept]))


def _find_suspect(start: Sequence[Finding], training: Sequence[Finding]) -> Finding | None:
    """The first cause where a model does not learn and no error says why; the start's go first."""
    errors = {f.symptom for f in (*start, *training) if f.severity == "error"}
    if BEHIND not in errors or errors - _EFFECTS:
        return None
    for part in (start, training):
        causes = [f for f in part if f.severity == "warning" and f.symptom not in _EFFECTS]
        if causes:
            return sort_findings(causes)[0]
    return None


def _accuse(finding: Finding, steps: int) -> Finding:
    message = (
        f"{finding.message} In a rehearsal of {steps:,} steps the model learned nothing, and this "
        "is the first suspect."
    )
    return dataclasses.replace(finding, severity="error", message=message)


def is_wrong_in_any_case(finding: Finding) -> bool:
    """Whether it is wrong whatever a short training comes to; that a loss is slow is not."""
    return finding.symptom in _NEVER_HARMLESS and finding.evidence[0].statistic != SLOWNESS


def without_second_look(checks: Sequence[Check], reason: str) -> tuple[Check, ...]:
    """The checks where a start that says little could not be followed by a later look."""
    return tuple(
        Check(check.symptom, "not examined", reason)
        if check.status == "clean" and check.symptom in (*FLOW, SYMMETRY)
        else check
        for check in checks
    )


def sort_findings(findings: list[Finding]) -> list[Finding]:
    """The most severe first, and causes before what follows from them."""
    return sorted(findings, key=lambda f: (_ORDER[f.severity], _precedence(f)))


def _precedence(finding: Finding) -> int:
    own = registry()[finding.symptom].precedence
    is_slow = finding.symptom == PAIRING and not is_wrong_in_any_case(finding)
    return max(own, _OF_TRAINING) if is_slow else own


def _examine(
    symptom: Symptom, profile: Profile, blocked: bool, thresholds: Mapping[str, float]
) -> Sequence[Finding] | Skipped:
    # A history counts what is not finite apart, and tells how it came to that.
    if blocked and "history" not in symptom.needs and symptom.id != PAIRING:
        return Skipped(symptom.id, "there are non-finite values; remove them first")
    if "data" in symptom.needs and profile.data.kind == "synthetic":
        return Skipped(symptom.id, "needs real data; the inputs were made up", lacks_data=True)
    if "recurrent" in symptom.needs and not any(layer.timesteps for layer in profile.layers):
        return Skipped(symptom.id, "no recurrent layer whose steps could be measured")
    if "rehearsal" in symptom.needs and profile.rehearsal is None:
        return Skipped(symptom.id, "needs a rehearsal; make one with gradscope.rehearse")
    if "history" in symptom.needs and profile.history is None:
        return Skipped(symptom.id, "needs a training run; watch one with gradscope.Monitor")
    limits = {t.id.split(".", 1)[1]: thresholds.get(t.id, t.value) for t in symptom.thresholds}
    outcome = symptom.examine(profile, limits)
    is_found = outcome and not isinstance(outcome, Skipped)
    return outcome if is_found else _find_unmeasured(symptom, profile) or outcome


def _find_unmeasured(symptom: Symptom, profile: Profile) -> Skipped | None:
    """Why nothing found does not mean that nothing is there."""
    if "history" in symptom.needs:  # sees itself what its curves and snapshots lack
        return None
    if "layers" in symptom.measures and not profile.layers:
        return Skipped(symptom.id, "no layer was measured")
    notes = (layer.unmeasured.get(m) for layer in profile.layers for m in symptom.measures)
    return next((Skipped(symptom.id, note) for note in notes if note), None)
