"""The runs of the patient and of its treated copies: each is trained once, however often asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import keras

from gradscope.errors import TrialError
from gradscope.records import Declined, Prescription, Run
from gradscope.therapy.candidates import Candidate, make_copy
from gradscope.trials import training, verdicts
from gradscope.trials.paired import TrialPlan, train
from gradscope.trials.traced_loop import Loops
from gradscope.trials.training import Make

PATIENT = ""

Standing = tuple[float, float]


class RunCache:
    """Trains what it is asked for and keeps the runs and the traced loops.

    Args:
        plan: of whole runs; shorter ones begin alike.
        progress: called with the name of what is trained next.
    """

    def __init__(
        self,
        model: keras.Model,
        plan: TrialPlan,
        seeds: Sequence[int],
        jobs: int = 1,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.plan = plan
        self.seeds = tuple(seeds)
        self.measure = plan.measures[0] if plan.measures else None
        self._model, self._jobs, self._progress = model, jobs, progress
        self._loops = Loops()
        self._runs: dict[tuple[str, int, int], Run] = {}
        self.refused: dict[str, str] = {}

    def run_patient(self, steps: int, seeds: Sequence[int] | None = None) -> tuple[Run, ...]:
        """The patient's runs of `steps` steps, from every seed or from these.

        Raises:
            TrialError: the patient cannot be trained on the data.
        """
        makes = {PATIENT: self._bind(())}
        return self._train(makes, self.plan_for(steps), seeds or self.seeds)[PATIENT]

    def plan_for(self, steps: int) -> TrialPlan:
        """The plan of runs of `steps` steps, looked at at every quarter of a whole run."""
        looks = max(1, round(training.NUM_CHECKPOINTS * steps / self.plan.steps))
        return dataclasses.replace(self.plan, steps=steps, num_checkpoints=looks)

    def rank(
        self, candidates: Sequence[Candidate], steps: int, seeds: Sequence[int]
    ) -> dict[str, Standing]:
        """How well each did after `steps` on average, the best first; without those that failed."""
        plan = self.plan_for(steps)
        makes = {c.name: self._bind(c.prescriptions) for c in candidates}
        found = self._train_possible(makes, plan, seeds)
        means = {name: verdicts.rank_runs(runs, self.measure) for name, runs in found.items()}
        return dict(sorted(means.items(), key=lambda item: item[1], reverse=True))

    def group(self, candidates: Sequence[Candidate]) -> list[Sequence[Candidate]]:
        """Those that are best trained at the same time: all with workers, else one by one."""
        return [candidates] if self._jobs > 1 and candidates else [[c] for c in candidates]

    def is_new(self, candidate: Candidate) -> bool:
        """Whether the candidate has not been trained yet."""
        known = {name for name, _, _ in self._runs} | self.refused.keys()
        return candidate.name not in known

    def margin(self, score: float) -> float:
        """Differences from `score` below this cannot be told from chance in a run or two."""
        return verdicts.margin(score, self.measure, self.plan.data.held_out.num_samples)

    def run_once(self, candidate: Candidate, steps: int) -> tuple[Run, ...]:
        """The candidate's run from the first seed; empty where it cannot be trained."""
        self.rank([candidate], steps, self.seeds[:1])
        run = self._runs.get((candidate.name, steps, self.seeds[0]))
        return () if run is None else (run,)

    def run_all(self, candidate: Candidate, steps: int) -> tuple[Run, ...] | None:
        """The candidate's runs from every seed; None where it cannot be trained."""
        self.rank([candidate], steps, self.seeds)
        keys = [(candidate.name, steps, seed) for seed in self.seeds]
        return tuple(self._runs[k] for k in keys) if all(k in self._runs for k in keys) else None

    def _train_possible(
        self, makes: dict[str, Make], plan: TrialPlan, seeds: Sequence[int]
    ) -> dict[str, tuple[Run, ...]]:
        """Runs of those that can be trained; the others are `refused`."""
        if self._jobs > 1 and len(makes) > 1:
            with suppress(TrialError):
                return self._train(makes, plan, seeds)
        found: dict[str, tuple[Run, ...]] = {}
        for name, make in makes.items():
            with self._note_refusal(name):
                found |= self._train({name: make}, plan, seeds)
        return found

    @contextmanager
    def _note_refusal(self, name: str) -> Iterator[None]:
        try:
            yield
        except TrialError as error:
            self.refused[name] = str(error)

    def _train(
        self, makes: dict[str, Make], plan: TrialPlan, seeds: Sequence[int]
    ) -> dict[str, tuple[Run, ...]]:
        missing: dict[tuple[int, ...], dict[str, Make]] = {}
        for name, make in makes.items():
            lacking = tuple(s for s in seeds if (name, plan.steps, s) not in self._runs)
            if lacking:
                missing.setdefault(lacking, {})[name] = make
        for lacking, some in missing.items():
            self._progress(f"training {', '.join(name or 'the patient' for name in some)}")
            runs = train(some, plan, lacking, jobs=self._jobs, loops=self._loops)
            self._runs |= {(n, plan.steps, r.seed): r for n, rs in runs.items() for r in rs}
        return {name: tuple(self._runs[name, plan.steps, s] for s in seeds) for name in makes}

    def _bind(self, prescriptions: Sequence[Prescription]) -> Make:
        model, x = self._model, self.plan.data.training.x

        def make(seed: int) -> keras.Model | Declined:
            done = make_copy(model, prescriptions, x, seed)
            return done if isinstance(done, Declined) else done.model

        return make
