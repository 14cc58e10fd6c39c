"""Pictures: the right mark at the right place, and small however many layers there are."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest

from gradscope.render.charts import Series, bar_chart, line_chart, runs
from gradscope.render.heat import Row, heat_chart


def _line(values, **options):
    names = [f"layer {i}" for i in range(len(values))]
    return line_chart(
        "title", names, [Series("signal", values)], x_label="x", y_label="y", **options
    )


def _points(svg: str, css: str = "l s0") -> list[tuple[float, float]]:
    """Points of the last path of this class: the legend's key is drawn after, on line 14."""
    data = [d for d in re.findall(rf'<path class="{css}" d="([^"]*)"', svg) if " 14h" not in d]
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", data[0])]


def test_equal_factors_are_equal_steps():
    heights = [y for _, y in _points(_line([1e-6, 1e-4, 1e-2, 1.0]))]
    steps = [a - b for a, b in itertools.pairwise(heights)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)


def test_larger_is_higher():
    (_, first), (_, last) = _points(_line([1e-3, 1.0]))
    assert last < first


def test_a_zero_lies_below_the_scale():
    points = _points(_line([1e-3, 0.0, 1.0]))
    assert points[1][1] == max(y for _, y in points)


def test_a_missing_value_has_no_point():
    assert len(_points(_line([1.0, None, 0.1]))) == 2


def test_a_picture_without_values_is_drawn():
    assert "<svg" in _line([None, None])


def test_no_spike_is_lost_among_ten_thousand_values():
    values = [1.0] * 10_000
    values[5_003] = 1e9
    points = _points(_line(values))
    assert len(points) < 1_700
    assert min(y for _, y in points) < 60


def test_ticks_are_powers_of_ten():
    assert "10⁻⁶" in _line([1e-6, 1.0])


@pytest.mark.parametrize("values", [[0.5, 0.5], [1.0, 1.01], [3e-5, 4e-5], [1e-300, 1e300]])
def test_every_scale_has_ticks(values):
    assert 2 <= len(re.findall('<path class="g"', _line(values))) <= 10


def test_culprits_are_shaded_a_run_at_a_time():
    svg = _line([1.0] * 10, marked={2, 3, 7})
    shade = re.search('<path class="m" d="([^"]*)"', svg).group(1)
    assert shade.count("M") == 2


def test_values_are_named_under_the_pointer():
    assert "<title>layer 1\nsignal: 1.0e-5</title>" in _line([1.0, 1e-5])


def test_names_are_escaped():
    svg = line_chart(
        "<t>", ["<script>"], [Series("<s>", [1.0])], x_label="<x>", y_label='"', reference=1.0
    )
    assert {e.tag for e in ElementTree.fromstring(svg).iter()} <= {
        "svg",
        "path",
        "rect",
        "text",
        "title",
    }


def test_bars_are_as_high_as_their_fraction():
    svg = bar_chart("t", ["a"], [Series("dead", [0.25])], x_label="x", y_label="y")
    low, high = re.search(r'<path class="b s0" d="M[\d.]+ ([\d.]+)V([\d.]+)h', svg).groups()
    full = 230
    assert float(low) - float(high) == pytest.approx(full / 4, abs=0.1)


@pytest.mark.parametrize("count", [1, 5, 1_000])
def test_the_same_heat_picture_for_any_number_of_layers(count):
    rows = [Row(f"layer {i}", {-i // 20: 0.5, -i // 20 + 1: 0.1}, 0.4) for i in range(count)]
    svg = heat_chart("t", rows, "x")
    assert len(ElementTree.fromstring(svg).findall("rect")) == min(count, 167)
    assert len(svg) < 100_000


def test_runs_are_starts_and_lengths():
    assert runs([True, True, False, True]) == [(0, 2), (3, 1)]
