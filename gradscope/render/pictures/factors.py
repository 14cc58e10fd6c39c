"""Why the gradient changes: what activations and weights of each layer do to it."""

from __future__ import annotations

from typing import Any

from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.depth import by_depth
from gradscope.render.pictures.rows import BACKWARD, at


def factors(report: dict[str, Any]) -> list[Picture]:
    """The two factors of every layer, against 1."""
    reads = {
        "activation factor": at("backward", "activation_factor"),
        "weight factor": at("backward", "weight_factor"),
    }
    caption = (
        "What each layer multiplies the gradient by on its way back: its activation's derivative "
        "and its weights. Below 1 shrinks, above 1 grows; the factor far from 1 is the cause."
    )
    return by_depth(
        report, "Backward factors by layer", reads, "factor (log scale)", caption, BACKWARD
    )
