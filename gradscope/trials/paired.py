"""Paired training trials: the patient against its treated copy, on the same data in one order."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import joblib
import keras
import numpy as np
import tensorflow as tf

from gradscope.arguments import require_count
from gradscope.backend.seeding import seeded
from gradscope.backend.signature import loss_name
from gradscope.errors import TrialError, UsageError
from gradscope.messages import one_line
from gradscope.records import Arm, Run, Trial
from gradscope.trials import scoring, training, verdicts
from gradscope.trials.pickling import pack, unpack
from gradscope.trials.scoring import Measure
from gradscope.trials.splits import Split
from gradscope.trials.traced_loop import Loops
from gradscope.trials.training import Make

MAX_POINTS = 200
SIDES = ("before", "after")
# Random generators belong to the process: workers that are threads of one take turns.
_ONE_AT_A_TIME = threading.Lock()

Progress = Callable[[str, int, int], None]


def compare(
    patient_make: Make,
    treated_make: Make,
    data: Split,
    *,
    steps: int = 300,
    seeds: Sequence[int] = (0, 1, 2),
    batch_size: int = 32,
    jobs: int = 1,
    treatments: Sequence[str] = (),
    progress: Progress | None = None,
) -> Trial:
    """Train both from every seed, alike but for the treatment, and say whether it helped.

    Both see the same samples in the same order for as many steps, and are judged on the same
    held-out samples by `verdicts.judge`; the rule is told there. Runs that diverge count as the
    worst value.

    Args:
        patient_make: seed -> a compiled model to train, which shares nothing with the patient.
        treated_make: the same for the treated copy; what it initialises anew follows the seed.
        data: from `examples.split`.
        jobs: worker processes, of joblib's present backend (`joblib.parallel_config` sets another,
            for example "dask"); threads of one process take turns. What the two functions hold
            travels there; see `transport`.
        treatments: ids of what was done to the treated copy.
        progress: called with "before" or "after", the steps done and all steps of that side.

    Raises:
        UsageError: no seeds, or a count that is not positive.
        TrialError: a model that cannot be trained on the data, or a worker that died twice.
    """
    check(steps, seeds, batch_size, jobs)
    makes = dict(zip(SIDES, (patient_make, treated_make), strict=True))
    measures = _choose_measures(makes, seeds[0], data)
    plan = TrialPlan(data, steps, batch_size, measures)
    found = train(makes, plan, seeds, jobs=jobs, progress=progress)
    return judge(found["before"], found["after"], plan, treatments)


@dataclasses.dataclass(frozen=True, slots=True)
class TrialPlan:
    """What all runs that are compared have in common.

    Attributes:
        scorer: measures the outputs, in place of what the losses make of them; `measures` then
            says what kind of number that is.
        goal: the measure at which a model learns about what the data allow; None if not known.
        chance: the measure of the constant prediction; None if not known.
    """

    data: Split
    steps: int
    batch_size: int
    measures: tuple[Measure, ...]
    num_checkpoints: int = training.NUM_CHECKPOINTS
    scorer: scoring.Scorer | None = None
    goal: float | None = None
    chance: float | None = None


def train(
    makes: dict[str, Make],
    plan: TrialPlan,
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    loops: Loops | None = None,
    progress: Progress | None = None,
) -> dict[str, tuple[Run, ...]]:
    """Train each model from each seed; the runs by the name of the model.

    Args:
        loops: traced loops to use and add to, in this process; of the same data and batch size.
        progress: called with a name, the steps done and all steps under that name.
    """
    count = _Count(progress, plan.steps * len(seeds))
    if jobs > 1:
        return _train_in_workers(makes, tuple(seeds), plan, jobs, count)
    return {
        name: _train_seeds(
            make, plan, seeds, loops=loops, name=name if loops else None, progress=count.on(name)
        )
        for name, make in makes.items()
    }


def judge(
    before: Sequence[Run], after: Sequence[Run], plan: TrialPlan, treatments: Sequence[str] = ()
) -> Trial:
    """Say what runs of the same seeds before and after come to."""
    arms = [Arm(tuple(_bin(run) for run in runs)) for runs in (before, after)]
    measure = plan.measures[0] if plan.measures else None
    scores = verdicts.score(arms[0], arms[1], measure, plan.data.held_out.num_samples)
    result = verdicts.judge(scores)
    return Trial(
        treatments=tuple(treatments),
        seeds=tuple(run.seed for run in before),
        steps=plan.steps,
        before=arms[0],
        after=arms[1],
        verdict=result.verdict,
        batch_size=plan.batch_size,
        measure=scores.measure,
        difference=result.difference,
        minimum_difference=scores.minimum_difference,
        p_value=result.p_value,
        reason=result.reason,
        note=plan.data.note,
    )


def _train_seeds(make: Make, plan: TrialPlan, seeds: Sequence[int], **more: Any) -> tuple[Run, ...]:
    return training.train_seeds(
        make,
        plan.data,
        seeds=seeds,
        steps=plan.steps,
        batch_size=plan.batch_size,
        measures=plan.measures,
        scorer=plan.scorer,
        num_checkpoints=plan.num_checkpoints,
        **more,
    )


def check(steps: int, seeds: Sequence[int], batch_size: int, jobs: int) -> None:
    """Refuse counts that cannot be."""
    for name, value in (("steps", steps), ("batch_size", batch_size), ("jobs", jobs)):
        require_count(name, value)
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds must be different whole numbers, one or more. Received: {seeds}.")


def _choose_measures(makes: dict[str, Make], seed: int, data: Split) -> tuple[Measure, ...]:
    """What both are judged by: the treated copy's, since its loss is the one that fits the task.

    Raises:
        TrialError: there is none and the losses differ, which makes them incomparable.
    """
    models = {}
    for side in reversed(SIDES):
        with seeded(seed):
            models[side] = training.make_model(makes[side], seed)
        measures = scoring.choose_measures(models[side], data.held_out)
        if measures:
            return measures
    names = [[loss_name(loss) for loss in keras.tree.flatten(m.loss)] for m in models.values()]
    if names[0] != names[1]:
        raise TrialError(
            f"The losses before ({', '.join(names[1])}) and after ({', '.join(names[0])}) cannot "
            "be compared: neither is one for classes or for regression that gradscope knows."
        )
    return ()


def _bin(run: Run) -> Run:
    """The run with at most `MAX_POINTS` losses: means over equal stretches of steps."""
    if len(run.losses) <= MAX_POINTS:
        return run
    losses = np.array([np.nan if loss is None else loss for loss in run.losses])
    means = [float(part.mean()) for part in np.array_split(losses, MAX_POINTS)]
    return dataclasses.replace(run, losses=tuple(scoring.keep_finite(mean) for mean in means))


class _Count:
    """Adds up the steps done under each name and passes them on."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done: dict[str, int] = {}

    def on(self, side: str) -> Callable[[int], None]:
        def add(num_steps: int) -> None:
            self._done[side] = self._done.get(side, 0) + num_steps
            if self._progress is not None:
                self._progress(side, self._done[side], self._total)

        return add


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """Some of the seeds of one side, trained by one worker with one traced function."""

    side: str
    seeds: tuple[int, ...]


def _train_in_workers(
    makes: dict[str, Make],
    seeds: tuple[int, ...],
    plan: TrialPlan,
    jobs: int,
    count: _Count,
) -> dict[str, tuple[Run, ...]]:
    payloads = {side: pack(make) for side, make in makes.items()}
    num_parts = min(len(seeds), -(-jobs // len(makes)))
    parts = [seeds[i::num_parts] for i in range(num_parts)]
    pending = [_Task(side, part) for part in parts for side in makes]
    threads = max(1, joblib.cpu_count() // jobs)
    finished: dict[_Task, tuple[Run, ...]] = {}
    for attempt in range(2):
        calls = [
            joblib.delayed(_work)(payloads[t.side], plan, t.seeds, os.getpid(), threads)
            for t in pending
        ]
        try:
            for task, result in zip(pending, _collect(calls, jobs), strict=True):
                finished[task] = result
                count.on(task.side)(plan.steps * len(task.seeds))
        except Exception as error:
            if not _is_death(error):
                raise
            pending = [task for task in pending if task not in finished]
            if attempt:
                raise _give_up(pending, error) from error
        else:
            break
    found: dict[str, list[Run]] = {side: [] for side in makes}
    for task, some in finished.items():
        found[task.side] += some
    return {
        side: tuple(sorted(some, key=lambda run: seeds.index(run.seed)))
        for side, some in found.items()
    }


def _collect(calls: list[Any], jobs: int) -> Iterator[tuple[Run, ...]]:
    """The results in order, each as soon as it and those before it are there."""
    return iter(joblib.Parallel(n_jobs=jobs, return_as="generator")(calls))


def _work(
    payload: bytes,
    plan: TrialPlan,
    seeds: tuple[int, ...],
    parent: int,
    threads: int,
) -> tuple[Run, ...]:
    if os.getpid() != parent:
        _share_machine(threads)
    with _ONE_AT_A_TIME:
        return _train_seeds(unpack(payload), plan, seeds)


def _share_machine(threads: int) -> None:
    """Leave room for the other workers: of the cores, and of the memory of a GPU."""
    with suppress(RuntimeError):  # a worker that has run before has its threads already
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def _is_death(error: Exception) -> bool:
    # Dask's error has no base class in common with joblib's, and Dask need not be installed.
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, concurrent.futures.BrokenExecutor) or "KilledWorker" in names


def _give_up(pending: list[_Task], error: Exception) -> TrialError:
    first = pending[0]
    return TrialError(
        f"A worker process died twice while training {first.side!r} from seeds "
        f"{', '.join(map(str, first.seeds))} (often for lack of memory). Use fewer jobs or a "
        f"smaller batch_size. {one_line(error)}"
    )
