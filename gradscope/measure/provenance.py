"""Where tensors come from: the layer calls behind them, also through code between layers.

A tapped output carries the row it is the output of. What a model's own code makes of such tensors
(`x + residual` in a layer's `call`) would lose it, so TensorFlow's operations are followed there,
eagerly and in graphs, by the callback that its own debugger uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gradscope.backend import patches
from gradscope.backend.cleanup import undone
from gradscope.measure.layer_call import Origin, Row

_OUTPUT_OF = "_gradscope_origin"
_MADE_OF = "_gradscope_sources"
_SUMS = frozenset({"Add", "AddV2", "AddN", "Sub"})
# What they give says nothing of the entries.
_OF_SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})


def origin_of(tensor: Any) -> Origin | None:
    """The row that `tensor` is an output of, None where it is no layer's."""
    return vars(tensor).get(_OUTPUT_OF)


def set_origin(tensor: Any, origin: Origin | None) -> None:
    setattr(tensor, _OUTPUT_OF, origin)


def sources_of(tensor: Any) -> tuple[Origin, ...]:
    """The rows whose outputs `tensor` was made of, itself included."""
    attributes = vars(tensor)
    origin = attributes.get(_OUTPUT_OF)
    return (origin,) if origin else attributes.get(_MADE_OF, ())


class Trail:
    """Hands origins on through the operations of one run.

    An operation on several tensors is one unit of depth, as a layer that merges them would be.
    Where a layer's output is added to a tensor that is less deep, as a residual branch ends,
    dL/d(sum) is dL/d(output): the layer stands for the sum, and is as deep as the sum is.
    """

    def __init__(self, rows: dict[str, Row]) -> None:
        self._rows = rows
        self._inputs: list[Any] = []
        self._is_on = False

    @contextmanager
    def following(self, inputs: Sequence[Any]) -> Iterator[None]:
        """Within the outermost layer's own code; `inputs` are the model's, of depth 0."""
        was_on, self._is_on = self._is_on, True
        if was_on:
            yield
            return
        self._inputs = list(inputs)
        with undone([self._stop]):
            patches.follow_operations(self._follow)
            yield

    def _stop(self) -> None:
        self._is_on, self._inputs = False, []
        patches.unfollow_operations(self._follow)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Within a tapped layer, whose outputs are given their origin as a whole."""
        if not self._is_on:
            yield
            return
        self._is_on = False
        patches.unfollow_operations(self._follow)
        try:
            yield
        finally:
            patches.follow_operations(self._follow)
            self._is_on = True

    def _follow(
        self, kind: str | bytes, inputs: Any, attrs: Any, outputs: Any, *_: Any, **__: Any
    ) -> None:
        name = kind.decode() if isinstance(kind, bytes) else kind
        if name in _OF_SHAPES:
            return
        parts = [(tensor, sources_of(tensor)) for tensor in inputs if self.knows(tensor)]
        if parts:
            sources = self._merge(parts, name, outputs)
            for output in outputs:
                setattr(output, _MADE_OF, sources)

    def knows(self, tensor: Any) -> bool:
        """Whether it was made of outputs of layers or of inputs of the model, of which depth is 0.

        Constants and weights are not, nor is what came by NumPy.
        """
        attributes = vars(tensor)
        return (
            attributes.get(_OUTPUT_OF) is not None
            or _MADE_OF in attributes
            or any(tensor is held for held in self._inputs)
        )

    def _merge(
        self, parts: list[tuple[Any, tuple[Origin, ...]]], kind: str, outputs: Any
    ) -> tuple[Origin, ...]:
        every = {found: None for _, found in parts}
        if len(every) < 2:
            return next(iter(every), ())
        if kind in _SUMS and (end := self._end_of_branch(parts, outputs[0].shape)):
            return (end,)
        depth = 1 + min(_depth(found) for found in every)
        return tuple(dict.fromkeys((name, depth) for found in every for name, _ in found))

    def _end_of_branch(
        self, parts: list[tuple[Any, tuple[Origin, ...]]], shape: Any
    ) -> Origin | None:
        """The layer that ends a branch with this sum, made as deep as the sum is."""
        ends = [n for n, (tensor, _) in enumerate(parts) if _is_whole(tensor, shape)]
        if not ends:
            return None
        last = max(ends, key=lambda n: _depth(parts[n][1]))
        others = [found for n, (_, found) in enumerate(parts) if n != last]
        depth = 1 + min(map(_depth, others))
        ((name, _),) = parts[last][1]
        row = self._rows.get(name)
        if row is None or depth > row.depth:
            return None
        row.depth = depth
        added = (other for found in others for other, _ in found)
        row.added_to = tuple(dict.fromkeys((*row.added_to, *added)))
        return name, depth


def _depth(sources: tuple[Origin, ...]) -> int:
    return min((depth for _, depth in sources), default=0)


def _is_whole(tensor: Any, shape: Any) -> bool:
    """Whether a tensor is a layer's output, as large as the sum: a smaller one is spread out."""
    return origin_of(tensor) is not None and str(tensor.shape) == str(shape)
