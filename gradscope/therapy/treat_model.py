"""treat: from findings to a model that trains, with the evidence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from gradscope.analysis import analyze
from gradscope.arguments import as_ids, require_count
from gradscope.backend.isolation import unchanged
from gradscope.backend.train_step import has_own_step
from gradscope.diagnosis.diagnose import is_wrong_in_any_case, sort_findings
from gradscope.errors import IncomparableError, UsageError
from gradscope.inputs.arrays import is_arrays
from gradscope.progress import Verbose, show_progress
from gradscope.records import Declined, Prescription, Trial
from gradscope.rehearsal.judge import FEWEST_HELD_OUT, GOAL, Judge
from gradscope.rehearsal.rehearse import EXTENSION, RehearsalPlan, rehearse_copy
from gradscope.report.report import Report
from gradscope.surgery.functional import graph_of
from gradscope.surgery.rebuild import is_graph
from gradscope.therapy.apply_prescriptions import Treated
from gradscope.therapy.candidates import (
    Candidate,
    ask_for_more,
    list_applicable,
    make_copy,
    propose,
)
from gradscope.therapy.decisions import Search
from gradscope.therapy.run_cache import RunCache
from gradscope.therapy.search import run_search
from gradscope.treatments import check_ids
from gradscope.trials import scoring, splits
from gradscope.trials.paired import TrialPlan, check
from gradscope.trials.splits import Examples, Split

EPOCHS = 10
FEWEST_STEPS, MOST_STEPS = 200, 300
_LONGER = "longer-training"
_IN_LABELS = "in_labels"  # parameter of a prescription: code that changes the labels
_NOT_TRIED = "not tried"
_FEW_LINES = 2  # of code fit into a line of text
_TARGETS = "unscaled-targets"
_SCALED_INSIDE = "its data stay as they are: it scales them"
_SCALED_FOR_LAYERS = (
    "it scales what its layers get, and its train_step still gets x as it is. If that compares "
    "outputs with x, as an autoencoder does, train your model as it is after "
    "x = (x - x.mean(0)) / x.std(0)"
)
_SCALING = {"input-normalization", "target-normalization"}

Status = Literal["healthy", "improved", "not improved", "nothing to prescribe"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of treating a model.

    Attributes:
        model: the treated copy, not trained; the patient itself unless `status` is "improved".
        report: of the patient, with all trials; `report.rejected` says what was not kept, and why.
        trial: the proof of what was kept; without success, the best that there is, or None.
        prescriptions: what was kept, in order; the later ones were made for the copy that the
            earlier ones left.
        status: "healthy" where nothing was found at warning or above and the training was
            rehearsed or watched; "nothing to prescribe" where no treatment applies.
        rows: which samples of x can be trained on, where some hold NaN or Inf; None: all.
        treated: layers kept, reset and added.
    """

    model: keras.Model
    report: Report
    trial: Trial | None
    prescriptions: tuple[Prescription, ...]
    status: Status
    rows: np.ndarray | None = None
    treated: Treated | None = None

    @property
    def rejected(self) -> tuple[Declined, ...]:
        """What was not kept, and why."""
        return self.report.rejected

    @property
    def next_steps(self) -> str:
        """What to do now, in one line."""
        kept = {p.treatment for p in self.prescriptions}
        if self.status == "healthy":
            return "Train your model as it is."
        if self.status != "improved":
            return _tell_what_to_apply(self.report) or _tell_by_hand(self.report)
        line = "Train outcome.model in place of your model"
        # Epochs that were foreseen from the patient's curve say nothing of that of the copy.
        if self.trial is not None and _LONGER in {p.treatment for p in self.report.prescriptions}:
            line += f", for at least the {self.trial.steps:,} steps of its trial"
        if self.rows is not None:
            lost = int((~self.rows).sum())
            line += f", without the {lost:,} samples that hold NaN or Inf (x[outcome.rows])"
        is_own = has_own_step(self.model)
        if kept & _SCALING:
            line += f"; {_SCALED_FOR_LAYERS if is_own else _SCALED_INSIDE}"
        for prescription in (*self.prescriptions, *_list_advice(self.report)):
            for code in prescription.parameters.get(_IN_LABELS, ()):
                line += f". Better still, train your model as it is after {code}"
        if self.trial is not None:
            line += _tell_what_is_left(self.trial, self.report)
            if is_own and self.trial.measure == "loss":
                line += _tell_what_is_unknown(self.trial)
        return f"{line}."

    def summary(self) -> str:
        """What was done and why, as plain text."""
        from gradscope.report.report import outcome_text

        return f"{outcome_text(self.report)}\n\nNext\n  {self.next_steps}"

    def show(self) -> Path:
        """Open the page of the report in a browser.

        Returns:
            Where it is, in the folder for temporary files.
        """
        return self.report.show()

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        kept = " + ".join(p.treatment for p in self.prescriptions)
        return f"<Outcome: {self.status}{f' by {kept}' if kept else ''}>"

    def _repr_html_(self) -> str | None:
        """The page of the report inside a frame of its own."""
        return self.report._repr_html_()


def _list_advice(report: Report) -> list[Prescription]:
    return [p for p in report.prescriptions if p.safety == "advice"]


def _tell_what_is_left(trial: Trial, report: Report) -> str:
    """How far a treated model that improved stays from what a plain network reaches."""
    rehearsal = report.rehearsal
    beside = None if rehearsal is None else rehearsal.yardstick
    reached = [run.checkpoints[-1].metric for run in trial.after.runs]
    if rehearsal is None or beside is None or trial.measure == "loss" or None in reached:
        return ""
    score = float(np.mean([value for value in reached if value is not None]))
    # Of several outputs a trial scores the worst one's share of the way from the constant.
    is_share = rehearsal.output is not None
    low, high = (0.0, beside.share) if is_share else (rehearsal.constant.score, beside.score)
    if low is None or high is None or score >= low + GOAL * (high - low):
        return ""
    return f". It does not do yet what the data allow: {score:.2g}, and a plain network {high:.2g}"


def _tell_what_is_unknown(trial: Trial) -> str:
    """Of a loss that nothing can be compared with: a lower one may still be worth nothing."""
    text = ". No constant prediction can be compared with the loss of its train_step: look at its "
    left = [f.message for f in trial.after.findings if f.symptom == _TARGETS]
    return "".join([f"{text}outputs", *(f". {message.removesuffix('.')}" for message in left)])


def _tell_what_to_apply(report: Report) -> str | None:
    """Where treatments could be carried out but not be compared: the first of them."""
    untried = {d.what for d in report.rejected if d.reason.startswith(_NOT_TRIED)}
    for number, prescription in enumerate(report.prescriptions):
        if prescription.treatment in untried and report.outcome == "nothing to prescribe":
            code = f"gradscope.apply(model, outcome.report.prescriptions[{number}], x).model"
            return f"No treatment could be compared by training. Train {code} and look yourself."
    return None


def _tell_by_hand(report: Report) -> str:
    """What is left to do where nothing that could be carried out helped, as code if it is known.

    First what is wrong whatever so short runs came to, longer training last.
    """
    wrong = {f.symptom for f in report.findings if is_wrong_in_any_case(f)}
    offered = sorted(
        report.prescriptions, key=lambda p: (p.treatment == _LONGER, not wrong & {*p.resolves})
    )
    for prescription in offered:
        lines = prescription.parameters.get(_IN_LABELS) or _read_code(prescription.snippet)
        if prescription.safety != "advice" and not wrong & {*prescription.resolves}:
            continue
        what = f"Change by hand what {prescription.treatment} says"
        code = f": {'; '.join(lines)}" if 0 < len(lines) <= _FEW_LINES else ""
        return f"{what}{code}. No treatment that can be carried out was proven to help."
    return "Check your data; no treatment that can be carried out helped."


def _read_code(snippet: str) -> list[str]:
    lines = (line.partition("  #")[0].rstrip() for line in snippet.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def treat(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    only: Collection[str] | None = None,
    steps: int | None = None,
    seeds: int = 3,
    jobs: int = 1,
    batch_size: int = 32,
    validation_data: Any = None,
    report: Report | None = None,
    progress: Callable[[str], None] | None = None,
    verbose: Verbose = "auto",
) -> Outcome:
    """Find a small set of treatments that makes the model learn, and prove it.

    The training of a copy is rehearsed beside a plain network, so that what only training shows is
    treated, too; what is prescribed is carried out on copies, alone and in chains; short
    runs choose among the copies; and the smallest set that does as well as any is proven by a
    paired trial. A copy that improves but does not do what the data allow is treated further. The
    model itself is never trained and stays as it is.

    Example:
        >>> outcome = gradscope.treat(model, x_train, y_train)
        >>> print(outcome)
        >>> outcome.model.fit(x_train, y_train, epochs=20)

    Args:
        model: a compiled model.
        x: as for `trial`. Samples with NaN or Inf are left out of all runs; see `Outcome.rows`.
        y: as for `trial`.
        only: ids of the treatments to consider, or one id; all by default.
        steps: optimizer steps of a whole run; by default ten epochs, but at least 200 and at most
            300 steps. Short runs take a quarter, and a proof that is sure half-way ends there.
        batch_size: samples a step, for arrays; data sets keep their own.
        seeds: how many pairs of whole runs the proof rests on; 2 or more.
        jobs: worker processes for the runs, of joblib's present backend.
        validation_data: (x, y) to judge by; by default a fifth of the samples is held out, and
            none where that would be fewer than 30: then all are judged by that are trained on.
        report: of a run that `Monitor` watched; what it prescribes is tried as well.
        progress: called with one line on what is done next, in place of a bar.
        verbose: "auto", 0, 1 or 2, as in Keras: nothing, a progress bar, or a line for each part of
            the work. "auto" is a bar on a terminal and in a notebook, and nothing elsewhere.

    Returns:
        An `Outcome`: the treated copy, the treatments that were kept and the trial that proves
        them. Where nothing helps, `status` says so and `model` is the one that you passed.

    Raises:
        UsageError: not a compiled model, a count that cannot be, or an unknown treatment.
        UnreadableError: data that do not fit the model.
        CannotExamineError: the model cannot be examined.
        TrialError: the model cannot be copied, or not be trained on the data.
    """
    only = as_ids(only)
    _check(model, only, seeds)
    check(1 if steps is None else steps, range(seeds), batch_size, jobs)
    with show_progress(verbose, progress) as tell:
        tell("rehearsing the training")
        case = admit(model, x, y, steps, batch_size, validation_data)
        case = dataclasses.replace(case, report=_join(case.report, report))
        longest = case.steps
        if steps is None:
            needed = count_steps(case.data, batch_size)
            longest = min(EXTENSION * case.steps, max(case.steps, needed))
        with unchanged(model):  # what the user wrote may be shared by the copies
            return _treat(case, longest, only, seeds, jobs, tell)


def _treat(
    case: Case,
    longest: int,
    only: Collection[str] | None,
    seeds: int,
    jobs: int,
    tell: Callable[[str], None],
) -> Outcome:
    if not any(f.severity != "info" for f in case.report.findings):
        has_trained = _has_trained(case.report)
        return _end(case, case.report, "healthy" if has_trained else "nothing to prescribe")
    case = _add_graph(case)

    def is_allowed(prescription: Prescription) -> bool:
        return not only or prescription.treatment in only

    if not any(map(is_allowed, list_applicable(case.report))):
        return _end(case, case.report, "nothing to prescribe")
    runs = RunCache(case.model, plan_runs(case), range(seeds), jobs, tell)
    search = Search(case.model, case.report, runs, is_allowed, longest)
    try:
        return conclude(case, search, propose(case.model, case.report, search.data, is_allowed))
    except IncomparableError as error:
        untried = [
            Declined(p.treatment, f"{_NOT_TRIED}: {error}") for p in list_applicable(case.report)
        ]
        report = dataclasses.replace(case.report, rejected=(*untried, *case.report.declined))
        return _end(case, report, "nothing to prescribe")


@dataclass(frozen=True, slots=True)
class Case:
    """A patient, what is known about it, and the data to train its copies on."""

    model: keras.Model
    report: Report
    data: Split
    steps: int
    batch_size: int
    rows: np.ndarray | None
    judge: Judge | None = None


def _join(report: Report, watched: Report | None) -> Report:
    """With what a run that was watched found and prescribed beside."""
    if watched is None:
        return report
    found = {f.symptom for f in report.findings if f.severity != "info"}
    more = [f for f in watched.findings if f.symptom not in found]
    offered = {p.treatment for p in report.prescriptions}
    return dataclasses.replace(
        report,
        history=report.history or watched.history,
        findings=tuple(sort_findings([*report.findings, *more])),
        prescriptions=(
            *report.prescriptions,
            *(p for p in watched.prescriptions if p.treatment not in offered),
        ),
    )


def _has_trained(report: Report) -> bool:
    """Whether a training was seen, and came to more than a constant as far as that is known."""
    if report.rehearsal is None:
        return report.history is not None
    return report.rehearsal.share is None or report.rehearsal.share > 0


def admit(
    model: keras.Model, x: Any, y: Any, steps: int | None, batch_size: int, validation_data: Any
) -> Case:
    """Examine the patient, and split the data that its copies are trained on."""
    with unchanged(model):  # reading the data may draw from generators that the process shares
        given = splits.split(x, y, validation_data=validation_data)
    splits.require_labels(model, given)
    data, lost = splits.leave_out_non_finite(given)
    rows = None
    if lost:
        note = f"{lost:,} samples with NaN or Inf left out"
        data = data._replace(note=f"{given.note}; {note}" if given.note else note)
        rows = splits.find_finite(Examples(x, y)) if is_arrays(x) else None
    if validation_data is None:
        data = _ensure_held_out(data)
    pair = (x, y) if is_arrays(x) else given.training[:2]
    start = analyze(model, *pair, batch_size=batch_size, verbose=0)
    steps = choose_steps(data, batch_size) if steps is None else steps
    plan = RehearsalPlan(batch_size, steps, math.inf, None, 0)
    report, judge = rehearse_copy(model, start, data, plan)
    report = ask_for_more(report, model, data, plan)
    return Case(model, report, data, steps, batch_size, rows, judge)


def _ensure_held_out(data: Split) -> Split:
    """The data, judged on all samples where too few could be held out to tell anything."""
    if data.held_out.num_samples >= FEWEST_HELD_OUT or data.held_out is data.training:
        return data
    every = splits.join(data.training, data.held_out)
    note = f"too few samples to hold any out: judged on the {every.num_samples:,} trained on"
    return data._replace(training=every, held_out=every, note=note)


def _add_graph(case: Case) -> Case:
    """With what is prescribed for operations between layers, which only a graph of calls shows."""
    if is_graph(case.model):
        return case
    graph = graph_of(case.model, case.data.training.x)
    if isinstance(graph, Declined):
        return case
    more = analyze(
        graph, *case.data.training[:2], batch_size=case.batch_size, verbose=0
    ).prescriptions
    known = {p.treatment for p in list_applicable(case.report)}
    added = [p for p in more if p.treatment not in known and p.safety != "advice"]
    # What was mere advice on the code can be carried out on its graph.
    can_now = {p.treatment for p in added}
    kept = [p for p in case.report.prescriptions if p.treatment not in can_now]
    offered = (*added, *kept)
    ids = {p.treatment for p in offered}
    declined = tuple(d for d in case.report.declined if d.what not in ids)
    report = dataclasses.replace(case.report, prescriptions=offered, declined=declined)
    return dataclasses.replace(case, report=report)


def count_steps(data: Split, batch_size: int) -> int:
    """The steps of ten epochs."""
    return math.ceil(EPOCHS * data.training.num_samples / max(1, batch_size))


def choose_steps(data: Split, batch_size: int) -> int:
    """Ten epochs, within bounds."""
    return min(max(count_steps(data, batch_size), FEWEST_STEPS), MOST_STEPS)


def conclude(
    case: Case, search: Search, batches: Iterable[Sequence[Candidate | Declined]]
) -> Outcome:
    """Search among the candidates, and make of it what `treat` returns."""
    result = run_search(search, batches)
    declined = {d.what: d for d in (*result.declined, *case.report.declined)}
    report = dataclasses.replace(
        case.report,
        trials=tuple(result.trials),
        rejected=tuple((result.rejected | declined).values()),
    )
    if result.winner is None:
        best = max(result.trials, key=lambda trial: trial.difference, default=None)
        status: Status = "not improved" if result.trials else "nothing to prescribe"
        return dataclasses.replace(_end(case, report, status), trial=best)
    won = result.winner.candidate.prescriptions
    done = make_copy(case.model, won, case.data.training.x, seed=0)
    assert isinstance(done, Treated), done  # it was carried out for every run
    kept = done.prescriptions
    report = dataclasses.replace(report, outcome="improved", kept=kept)
    return Outcome(done.model, report, result.winner.trial, kept, "improved", case.rows, done)


def _check(model: Any, only: Collection[str], seeds: Any) -> None:
    if not isinstance(model, keras.Model) or not model.compiled:
        kind = "a model that is not compiled" if isinstance(model, keras.Model) else type(model)
        raise UsageError(f"treat trains copies: it needs a compiled keras.Model. Received: {kind}.")
    require_count("seeds", seeds, least=2)
    check_ids(only)


def plan_runs(case: Case) -> TrialPlan:
    """How all runs are made and judged: as the rehearsal was, where it had a yardstick."""
    scale = case.judge.scale() if case.judge is not None else None
    if scale is None:
        return TrialPlan(case.data, case.steps, case.batch_size, _choose_measures(case))
    return TrialPlan(
        case.data,
        case.steps,
        case.batch_size,
        (scale.measure,),
        scorer=scale.score,
        goal=scale.goal,
        chance=scale.chance,
    )


def _choose_measures(case: Case) -> tuple[scoring.Measure, ...]:
    """One for all: where a loss may be replaced, that of the loss which fits the task."""
    for prescription in list_applicable(case.report):
        if prescription.treatment != "matched-loss":
            continue
        done = make_copy(case.model, (prescription,), case.data.training.x, seed=0)
        if isinstance(done, Treated):
            return scoring.choose_measures(done.model, case.data.held_out)
    return scoring.choose_measures(case.model, case.data.held_out)


def _end(case: Case, report: Report, status: Status) -> Outcome:
    rejected = report.rejected or report.declined
    report = dataclasses.replace(report, outcome=status, rejected=rejected)
    return Outcome(case.model, report, None, (), status, case.rows)
