"""KeptRows: rows that keep what passes through layers, where `Rows` keeps numbers of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from gradscope.measure.layer_call import Origin, Row
from gradscope.measure.recorder import Rows, as_array

Values = dict[str, dict[int, np.ndarray]]  # by kind; several inputs or outputs by their number
STEPS = ("state", "state_gradient")  # kinds that hold an array a time step


class KeptRows(Rows):
    """Keeps copies of the tensors of chosen layers; takes no statistics.

    Args:
        paths: of the layers to keep.
        kinds: what to keep of them, see `gradscope.capture`.
    """

    def __init__(self, paths: Collection[str], kinds: Collection[str]) -> None:
        super().__init__(shares=False)
        self.values: dict[str, Values] = {}
        self._paths, self._kinds = paths, kinds

    def _new_row(self, *args: Any) -> Row:
        row = super()._new_row(*args)
        row.features = None
        return row

    def _keep(self, row: Row, kind: str, value: Any, number: int | None = None) -> None:
        if kind in self._kinds and row.site.path in self._paths:
            held = self.values.setdefault(row.id, {}).setdefault(kind, {})
            held[len(held) if number is None else number] = np.array(as_array(value))

    def note_input(self, row: Row, value: Any, origin: Origin | None) -> None:
        self._keep(row, "input", value)

    def note_output(self, row: Row, value: Any) -> None:
        self._keep(row, "activation", value)

    def note_preactivation(self, row: Row, value: Any) -> None:
        self._keep(row, "preactivation", value)

    def count_preactivation(self, row: Row, value: Any) -> None:
        """The input of an activation layer, which `note_input` keeps."""

    def note_saturation(
        self, row: Row, function: Callable[..., Any], value: Any, is_gate: bool
    ) -> None:
        """Nothing is counted."""

    def note_gradient(self, row: Row, role: str, gradient: Any, number: int = 0) -> None:
        kind = "gradient" if role == "activation_gradient" else role
        self._keep(row, kind, gradient, number)

    def note_new_state(self, row: Row, role: str, state: Any) -> None:
        if role == "first":
            self._keep(row, "state", state)

    def note_state(self, row: Row, step: int, role: str, gradient: Any) -> None:
        if role == "first":
            self._keep(row, "state_gradient", gradient, step)
