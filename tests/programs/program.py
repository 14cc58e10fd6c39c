"""What a program is: a sick model, its cure, the data, and when it counts as trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from tests.clinic.data import Data

SEED = 8


Build = Callable[[], keras.Model]
Fit = Callable[[keras.Model, Data, int, int, Sequence[Any]], Any]


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that somebody asked about because it did not train.

    Attributes:
        id: Kebab-case, by what is done and how it fails.
        source: Question numbers, or threads as owner/name#number.
        about: What the program does and what is wrong with it.
        cure: What `cured` and `cured_data` change.
        causes: Ids of the symptoms that are a right answer.
        sick: Makes the compiled model of the question.
        cured: Makes the compiled model of the accepted answer.
        data: Makes the arrays that go with `sick`, the same at every call.
        metric: Judges a trained model on the validation arrays. The more the better; NaN where
            the predictions are not finite.
        threshold: From where on `metric` says that the model has learned.
        epochs: The budget of the question.
        batch_size: That of the question.
        cured_data: The arrays that go with `cured` where the answer changes labels or targets.
        cured_epochs: The budget of the answer where it is another one.
        cured_batch_size: That of the answer where it is another one.
        budget_is_ill: Whether no model can learn this within the budget of the question.
        culprits: Names of the layers to blame, where a layer is to blame.
        operation: The operation that makes NaN or Inf, or stops the gradient.
        fit: Trains in the place of `model.fit`.
        batches: Makes of the arrays what is passed to `fit` in their place.
        held_out: Whether it only judges. No threshold is set by looking at such a program.
        note: What differs from the original.
    """

    id: str
    source: str
    about: str
    cure: str
    causes: frozenset[str]
    sick: Build
    cured: Build
    data: Callable[[], Data]
    metric: Callable[[keras.Model, Data], float]
    threshold: float
    epochs: int
    batch_size: int
    cured_data: Callable[[], Data] | None = None
    cured_epochs: int | None = None
    cured_batch_size: int | None = None
    budget_is_ill: bool = False
    culprits: tuple[str, ...] = ()
    operation: str | None = None
    fit: Fit | None = None
    batches: Callable[[Data, int], Any] | None = None
    held_out: bool = False
    note: str = ""

    def build(self, cured: bool = False, seed: int = SEED) -> keras.Model:
        """The compiled model, drawn from `seed`."""
        keras.utils.set_random_seed(seed)
        return (self.cured if cured else self.sick)()

    def load(self, cured: bool = False) -> Data:
        """The arrays that go with the sick or the cured model."""
        return self.cured_data() if cured and self.cured_data else self.data()

    def budget(self, cured: bool = False) -> tuple[int, int]:
        """Epochs and batch size."""
        if not cured:
            return self.epochs, self.batch_size
        return self.cured_epochs or self.epochs, self.cured_batch_size or self.batch_size

    def feed(self, data: Data, batch_size: int) -> tuple[Any, Any]:
        """What the program passes to `fit` as x and y."""
        if self.batches is None:
            return data.x, data.y
        return self.batches(data, batch_size), None

    def train(
        self,
        model: keras.Model,
        data: Data,
        budget: tuple[int, int],
        callbacks: Sequence[Any] = (),
    ) -> None:
        """Train `model` as the program does, for `budget`, its epochs and batch size."""
        epochs, batch_size = budget
        if self.fit is not None:
            self.fit(model, data, epochs, batch_size, callbacks)
            return
        x, y = self.feed(data, batch_size)
        size = {} if self.batches else {"batch_size": batch_size}
        model.fit(x, y, epochs=epochs, verbose=0, callbacks=list(callbacks), **size)

    def has_learned(self, value: float) -> bool:
        """Whether `value` of the metric reaches the threshold; NaN does not."""
        return value >= self.threshold
