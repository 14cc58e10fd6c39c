"""The signal on its way forward: the scale of every output, and what tells samples apart."""

from __future__ import annotations

from typing import Any

from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.depth import by_depth
from gradscope.render.pictures.rows import FORWARD, at


def forward(report: dict[str, Any]) -> list[Picture]:
    """Rms of every output, and the share of it that differs between samples."""
    reads = {"rms of output": at("output", "rms"), "sample variation": at("sample_variation")}
    caption = (
        "Rms of each layer's output, near 1 in a network at a good start, and the share of it that "
        "differs from sample to sample: where that falls, all inputs look alike."
    )
    return by_depth(
        report, "Signal on its way forward", reads, "rms and share (log scale)", caption, FORWARD
    )
