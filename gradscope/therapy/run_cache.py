"""The runs of the patient and of its treated copies: each is trained once, however often asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import keras

from gradscope.errors import TrialError
from gradscope.records import Declined, Run
from gradscope.therapy.candidates import Candidate, treated
from gradscope.trials import training, verdicts
from gradscope.trials.paired import Plan, trained
from gradscope.trials.traced_loop import Loops
from gradscope.trials.training import Make

PATIENT = ""

Told = Callable[[str], None]


class Ward:
    """Trains what it is asked for and keeps the runs and the traced loops.

    Args:
        plan: of whole runs; shorter ones begin alike.
        told: called with the name of what is trained next.
    """

    def __init__(
        self, model: keras.Model, x: Any, plan: Plan, seeds: Sequence[int], jobs: int, told: Told
    ) -> None:
        self.plan = plan
        self.seeds = tuple(seeds)
        self.measure = plan.measures[0] if plan.measures else None
        self._model, self._x, self._jobs, self._told = model, x, jobs, told
        self._loops = Loops()
        self._runs: dict[tuple[str, int, int], Run] = {}
        self.refused: dict[str, str] = {}

    def patient(self, steps: int, seeds: Sequence[int] | None = None) -> tuple[Run, ...]:
        """The patient's runs of `steps` steps, from every seed or from these.

        Raises:
            TrialError: the patient cannot be trained on the data.
        """
        makes = {PATIENT: _maker(self._model, (), self._x)}
        return self._trained(makes, self.planned(steps), seeds or self.seeds)[PATIENT]

    def planned(self, steps: int) -> Plan:
        """The plan of runs of `steps` steps, looked at at every quarter of a whole run."""
        looks = max(1, round(training.NUM_CHECKPOINTS * steps / self.plan.steps))
        return dataclasses.replace(self.plan, steps=steps, num_checkpoints=looks)

    def standings(
        self, candidates: Sequence[Candidate], steps: int, seeds: Sequence[int]
    ) -> dict[str, tuple[float, float]]:
        """How well each did after `steps` on average, the best first; without those that failed."""
        plan = self.planned(steps)
        makes = {c.name: _maker(self._model, c.prescriptions, self._x) for c in candidates}
        found = self._tried(makes, plan, seeds)
        means = {name: verdicts.standing(runs, self.measure) for name, runs in found.items()}
        return dict(sorted(means.items(), key=lambda item: item[1], reverse=True))

    def together(self, candidates: Sequence[Candidate]) -> list[Sequence[Candidate]]:
        """Those that are best trained at the same time: all with workers, else one by one."""
        return [candidates] if self._jobs > 1 and candidates else [[c] for c in candidates]

    def untouched(self, candidate: Candidate) -> bool:
        """Whether the candidate has not been trained yet."""
        known = {name for name, _, _ in self._runs} | self.refused.keys()
        return candidate.name not in known

    def margin(self, score: float) -> float:
        """Differences from `score` below this cannot be told from chance in a run or two."""
        return verdicts.margin(score, self.measure, self.plan.data.held_out.num_samples)

    def first_run(self, candidate: Candidate, steps: int) -> tuple[Run, ...]:
        """The candidate's run from the first seed; empty where it cannot be trained."""
        self.standings([candidate], steps, self.seeds[:1])
        run = self._runs.get((candidate.name, steps, self.seeds[0]))
        return () if run is None else (run,)

    def runs(self, candidate: Candidate, steps: int) -> tuple[Run, ...] | None:
        """The candidate's runs from every seed; None where it cannot be trained."""
        self.standings([candidate], steps, self.seeds)
        keys = [(candidate.name, steps, seed) for seed in self.seeds]
        return tuple(self._runs[k] for k in keys) if all(k in self._runs for k in keys) else None

    def _tried(
        self, makes: dict[str, Make], plan: Plan, seeds: Sequence[int]
    ) -> dict[str, tuple[Run, ...]]:
        """Runs of those that can be trained; the others are `refused`."""
        if self._jobs > 1 and len(makes) > 1:
            with suppress(TrialError):
                return self._trained(makes, plan, seeds)
        found: dict[str, tuple[Run, ...]] = {}
        for name, make in makes.items():
            with self._refusing(name):
                found |= self._trained({name: make}, plan, seeds)
        return found

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        try:
            yield
        except TrialError as error:
            self.refused[name] = str(error)

    def _trained(
        self, makes: dict[str, Make], plan: Plan, seeds: Sequence[int]
    ) -> dict[str, tuple[Run, ...]]:
        missing: dict[tuple[int, ...], dict[str, Make]] = {}
        for name, make in makes.items():
            lacking = tuple(s for s in seeds if (name, plan.steps, s) not in self._runs)
            if lacking:
                missing.setdefault(lacking, {})[name] = make
        for lacking, some in missing.items():
            self._told(f"training {', '.join(name or 'the patient' for name in some)}")
            runs = trained(some, plan, lacking, jobs=self._jobs, loops=self._loops)
            self._runs |= {(n, plan.steps, r.seed): r for n, rs in runs.items() for r in rs}
        return {name: tuple(self._runs[name, plan.steps, s] for s in seeds) for name in makes}


def _maker(model: keras.Model, prescriptions: Sequence[Any], x: Any) -> Make:
    def make(seed: int) -> keras.Model | Declined:
        done = treated(model, prescriptions, x, seed)
        return done if isinstance(done, Declined) else done.model

    return make
