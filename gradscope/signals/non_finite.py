"""Entries that are not finite: which statistics tell of them, and where they are meant."""

from __future__ import annotations

from gradscope.records import LayerProfile, TensorStats


def all_stats(layer: LayerProfile) -> list[TensorStats | None]:
    return [
        layer.input,
        layer.preactivation,
        layer.output,
        layer.kernel,
        layer.activation_gradient,
        layer.preactivation_gradient,
        layer.input_gradient,
        layer.kernel_gradient,
    ]


def is_bad(stats: TensorStats | None) -> bool:
    return stats is not None and stats.finite_fraction < 1.0


def bad_share(stats: TensorStats | None) -> float:
    return 0.0 if stats is None else 1.0 - stats.finite_fraction


def is_absorbed(
    layer: LayerProfile, takers: dict[str, list[LayerProfile]], ends_well: bool
) -> bool:
    """Whether -Inf is a mark that those who take it understand: a maximum, a softmax."""
    after = takers[layer.id]
    is_mark = ends_well and not layer.weights and bool(after)
    return is_mark and not any(is_bad(row.output) for row in after)
