"""The clinic: small models whose state of health was established by training them.

A sick model misses its threshold on held-out data in every measured run, and its twin with one
textbook cure reaches it in every run. A healthy model reaches its threshold in every run, however
sick it may look. `truth.json` keeps what was measured; `measure` makes it.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from tests.clinic.data import Data

KINDS = (
    "mlp", "cnn", "residual", "rnn", "gated", "transformer", "autoencoder", "multi", "transfer",
    "subclassed",
)  # fmt: skip
HALVES = ("calibration", "held-out")
FRESH = "fresh"
TRUTH = Path(__file__).with_name("truth.json")


@dataclass(frozen=True, slots=True)
class Case:
    """A model, the data it is trained on, and what is known about it.

    Attributes:
        name: kebab-case, unique.
        kind: one of `KINDS`.
        make: returns the compiled model; call `build` instead, which sets the seed.
        data: returns what it is trained and judged on.
        steps: optimizer steps that a healthy model of this kind needs, with room.
        metric: "accuracy", or "explained": 1 - mean squared error / mean variance of the targets'
            columns. Where a model has several outputs, the worst of them counts.
        threshold: what a clearly working model reaches on held-out data.
        illnesses: one group for each illness, of the symptoms that are equally right names for
            it; empty for a healthy model.
        culprits: paths of the layers that cause the illness, where single layers do.
        cure: makes the twin that differs by one textbook remedy; sick cases only.
        cured_data: the remedied data, where the illness is in the data.
        note: why it is sick, or why it is not.
        fresh: whether it is one of those written later, which are in neither half.
    """

    name: str
    kind: str
    make: Callable[[], keras.Model]
    data: Callable[[], Data]
    steps: int = 300
    batch_size: int = 32
    metric: str = "accuracy"
    threshold: float = 0.85
    illnesses: tuple[tuple[str, ...], ...] = ()
    culprits: tuple[str, ...] = ()
    cure: Callable[[], keras.Model] | None = None
    cured_data: Callable[[], Data] | None = None
    note: str = ""
    fresh: bool = False

    @property
    def sick(self) -> bool:
        return bool(self.illnesses)

    def build(self, seed: int) -> keras.Model:
        """The compiled model, untrained; the same one for the same seed."""
        return _seeded(self.make, seed)

    def build_cured(self, seed: int) -> keras.Model:
        """The cured twin; the model itself where the cure is in the data."""
        return _seeded(self.cure or self.make, seed)


def _seeded(make: Callable[[], keras.Model], seed: int) -> keras.Model:
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    return make()


def cases() -> tuple[Case, ...]:
    """All cases, by kind; the fresh ones of all kinds come last."""
    modules = (importlib.import_module(f"tests.clinic.{name}") for name in (*KINDS, FRESH))
    return tuple(case for module in modules for case in module.CASES)


def chosen(names: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these names or kinds, "fresh" for those, in the order of `cases`; else all.

    Raises:
        SystemExit: a name that no case and no kind has; near ones are told.
    """
    everyone = cases()
    known = {c.name for c in everyone} | {*KINDS, FRESH}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
            raise SystemExit(f"No case or kind is named {name!r}. Near: {', '.join(near)}.")
    return tuple(c for c in everyone if not names or _labels(c) & set(names))


def _labels(case: Case) -> set[str]:
    return {case.name, case.kind} | ({FRESH} if case.fresh else set())


def halves(everyone: tuple[Case, ...]) -> dict[str, str]:
    """The half of the split that each case's name belongs to, or "fresh".

    Sick and healthy cases of a kind take turns in alphabetical order, so that nobody chooses.
    """
    ordered = sorted((c for c in everyone if not c.fresh), key=lambda c: (c.kind, c.sick, c.name))
    split = {case.name: HALVES[n % 2] for n, case in enumerate(ordered)}
    return split | {case.name: FRESH for case in everyone if case.fresh}


def truth() -> dict[str, dict[str, Any]]:
    """What was measured, by case name; empty before the first measurement."""
    return json.loads(TRUTH.read_text()) if TRUTH.exists() else {}
