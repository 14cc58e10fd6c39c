"""Pictures: the right mark at the right place, and small however many layers there are."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from gradscope.render.pictures.attention import attention, attention_over_time
from gradscope.render.pictures.canvas import PLOT, Series, by_layer, by_number, runs
from gradscope.render.pictures.factors import factors
from gradscope.render.pictures.flow import flow, healthy_band
from gradscope.render.pictures.forward import forward
from gradscope.render.pictures.graph import graph
from gradscope.render.pictures.histograms import Row, heat_chart
from gradscope.render.pictures.lines import Band, bar_chart, line_chart
from gradscope.render.pictures.maps import by_step, layer_map, log_shading
from gradscope.render.pictures.rows import rows_of
from gradscope.render.pictures.scales import linear_scale, log_scale
from gradscope.render.pictures.shares import shares
from gradscope.render.pictures.speed import speed
from gradscope.render.pictures.timelines import timelines
from gradscope.render.pictures.trials import trial_pictures
from gradscope.render.pictures.waterfall import waterfall
from gradscope.render.values import percent
from tests.support.factories import deep_report, finding, layer, report, sick_sigmoid_report
from tests.support.reports import history_only_report, history_report, residual_report, trial_report


def _line(values, **options):
    along = by_layer([f"layer {i}" for i in range(len(values))], "x")
    return line_chart("title", along, [Series("signal", values)], y_label="y", **options)


def _points(svg: str, css: str = "l s0") -> list[tuple[float, float]]:
    """Points of the last path of this class: the legend's key is drawn after, on line 14."""
    data = [d for d in re.findall(rf'<path class="{css}" d="([^"]*)"', svg) if " 14h" not in d]
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", data[0])]


@pytest.mark.parametrize("values", [[5e-324], [1.7e308], [5e-324, 1.7e308]], ids=str)
def test_a_scale_reaches_the_ends_of_what_a_float_holds(values):
    scale = log_scale(values)

    assert scale.ticks
    assert all(math.isfinite(scale.place(tick)) for tick, _ in scale.ticks)


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


def test_culprits_are_marked_a_run_at_a_time():
    svg = _line([1.0] * 10, marked={2, 3, 7})
    shade = re.search('<path class="m" d="([^"]*)"', svg).group(1)
    assert shade.count("M") == 2


def _marked(picture) -> int:
    return sum(data.count("M") for data in re.findall('<path class="m" d="([^"]*)"', picture.svg))


@pytest.mark.parametrize(
    ("draw", "symptom"),
    [
        (flow, "vanishing-gradient"),
        (factors, "exploding-gradient"),
        (speed, "learning-speed-imbalance"),
        (forward, "signal-collapse"),
        (shares, "dead-relu"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_each_chart_marks_the_culprits_of_its_own_finding(draw, symptom):
    rows = tuple(layer(f"d{i}", 0.02, depth=i, saturated=0.5) for i in range(6))
    found = (finding(symptom, ("d1",)), finding("mismatched-loss", ("d3", "d5")))
    (own,) = draw(report(rows, found).to_plain())
    (none,) = draw(report(rows, found[1:]).to_plain())

    assert _marked(own) == 1 + 1  # and the legend's
    assert _marked(none) == 0


def test_shares_that_are_all_zero_have_no_chart():
    assert shares(report(tuple(layer(f"d{i}", 0.02) for i in range(3))).to_plain()) == []


@pytest.mark.parametrize("value", [1e-3, 1e-8, -5.0, 3e9])
def test_a_level_line_is_level_on_a_scale_of_its_own_size(value):
    scale = linear_scale(value, value)
    ticks = [tick for tick, _ in scale.ticks]

    assert len(ticks) >= 2
    assert all(0 < tick / value < 2 for tick in ticks)


def test_values_are_named_under_the_pointer():
    assert "<title>layer 1\nsignal: 1.0e-05</title>" in _line([1.0, 1e-5])


def test_names_are_escaped():
    along = by_layer(["<script>"], "<x>")
    svg = line_chart("<t>", along, [Series("<s>", [1.0])], y_label='"', reference=1.0)
    assert {e.tag for e in ElementTree.fromstring(svg).iter()} <= {
        "svg",
        "path",
        "rect",
        "text",
        "title",
    }


def test_bars_are_as_high_as_their_fraction():
    svg = bar_chart("t", by_layer(["a"], "x"), [Series("dead", [0.25])], y_label="y")
    height = re.search(r'<path class="b s0" d="M[\d.]+ [\d.]+h[\d.]+v([\d.]+)', svg).group(1)
    assert float(height) == pytest.approx(PLOT / 4, abs=0.1)


@pytest.mark.parametrize("count", [1, 5, 1_000])
def test_the_same_heat_picture_for_any_number_of_layers(count):
    rows = [Row(f"layer {i}", {-i // 20: 0.5, -i // 20 + 1: 0.1}, 0.4) for i in range(count)]
    svg = heat_chart("t", rows, "x")
    assert len(ElementTree.fromstring(svg).findall("rect")) == min(count, 167)
    assert len(svg) < 100_000


def test_runs_are_starts_and_lengths():
    assert runs([True, True, False, True]) == [(0, 2), (3, 1)]


def test_numbers_keep_their_distances():
    along = by_number([0, 1, 10], "step", "step")
    assert along.places == [0.0, 0.1, 1.0]
    assert along.names[1] == "step 1"


def test_a_band_covers_its_range():
    svg = _line([1e-6, 1.0], band=Band(1e-3, 1e3, "healthy range"))
    top, height = re.search(r'<path class="ok" d="M[\d.]+ ([\d.]+)h[\d.]+v([\d.]+)', svg).groups()
    (_, low), (_, high) = _points(svg)
    middle = low + (high - low) / 2
    assert float(top) + float(height) == pytest.approx(middle, abs=0.3)


def test_a_spread_reaches_from_low_to_high():
    series = [Series("loss", [2.0, 2.0], [1.0, 1.0], [4.0, 4.0])]
    svg = line_chart("t", by_number([0, 1], "step", "step"), series, y_label="loss")
    outline = re.search('<path class="sp s0" d="([^"]*)"', svg).group(1)
    heights = {float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", outline)}
    line = _points(svg)[0][1]
    assert min(heights) < line < max(heights)
    assert line - min(heights) == pytest.approx(max(heights) - line, abs=0.2)


def test_flow_band_is_the_warning_around_the_signal_at_the_loss():
    plain = sick_sigmoid_report().to_plain()
    top = plain["layers"][-1]["activation_gradient"]["l2_norm"]
    band = healthy_band(plain, rows_of(plain))
    assert (band.low, band.high) == (pytest.approx(top * 1e-3), pytest.approx(top * 1e3))


def test_flow_band_follows_a_threshold_set_by_hand():
    report = replace(sick_sigmoid_report(), thresholds={"vanishing-gradient.warning_decades": 2.0})
    plain = report.to_plain()
    top = plain["layers"][-1]["activation_gradient"]["l2_norm"]
    assert healthy_band(plain, rows_of(plain)).low == pytest.approx(top * 1e-2)


def test_waterfall_ends_where_the_parts_add_up_to():
    plain = sick_sigmoid_report().to_plain()
    (picture,) = waterfall(plain)
    # 19 steps between 20 layers whose activation factor is 0.21 and weight factor 0.65.
    activations, weights = (19 * -math.log10(factor) for factor in (0.21, 0.65))
    assert f"loses {activations + weights:.1f} decades" in picture.caption
    assert f"activations −{activations:.1f}, weights −{weights:.1f}" in picture.caption


@pytest.mark.parametrize("depth", [5, 20, 1_000])
def test_waterfall_of_any_depth_has_at_most_60_steps(depth):
    (picture,) = waterfall(sick_sigmoid_report(depth).to_plain())
    targets = ElementTree.fromstring(picture.svg).findall("rect")
    assert len(targets) == min(depth - 1, 59)


def test_graph_shows_skips_as_arcs():
    (picture,) = graph(residual_report().to_plain())
    arcs = re.search('<path class="gs" d="([^"]*)"', picture.svg).group(1)
    # One a block, and the side branch that joins at the head.
    assert arcs.count("C") == 7
    assert "(7 here)" in picture.caption


def test_graph_colours_follow_the_gradient():
    (picture,) = graph(residual_report().to_plain())
    count = {
        css: len(re.findall("M", data))
        for css, data in re.findall('<path class="gn g-([a-z0-9]+)" d="([^"]*)"', picture.svg)
        if data.startswith("M") and " 8h14" not in data
    }
    # The blocked block passes nothing; the side branch carries 1,500 times the loss side.
    assert count == {"ok0": 18, "zero": 2, "e1": 1}


@pytest.mark.slow
def test_graph_of_a_thousand_layers_stays_small():
    (picture,) = graph(deep_report().to_plain())
    assert len(picture.svg) < 60_000
    assert len(ElementTree.fromstring(picture.svg).findall("rect")) <= 120


def test_a_model_without_known_connections_has_no_graph():
    assert graph(report((layer("a", 0.1), layer("b", 0.1))).to_plain()) == []


def test_a_map_has_a_row_a_layer_and_marks_zeros():
    values = [[1e-3, 1e-3], [1.0, 0.0]]
    svg = layer_map("t", ["a", "b"], by_step([0, 64]), values, log_shading([1e-3, 1.0]))
    drawn = dict(re.findall('<path class="(k[0-9])" d="([^"]*)"', svg.split("<text")[0]))
    assert set(drawn) == {"k0", "k5", "k6"}
    assert drawn["k0"].count("M") == 1  # equal neighbours are one rectangle


def attention_row(path, entropies, class_="EinsumDense", call=0):
    held = {"heads": len(entropies), "entropy_fraction": list(entropies)}
    return {"path": path, "call": call, "class": class_, "attention": held}


def shades(svg):
    return dict(re.findall('<path class="(k[0-9])" d="([^"]*)"', svg.split("<text")[0]))


def test_entropy_has_a_row_a_layer_and_a_column_a_head():
    rows = [
        attention_row("block/attention/query", [0.01, 0.99]),
        attention_row("scored", [0.5], "Attention"),
        {"path": "dense", "call": 0, "class": "Dense"},
        attention_row("one_key/query", [None, None]),
    ]
    (picture,) = attention({"layers": rows})

    assert {shade: data.count("M") for shade, data in shades(picture.svg).items()} == {
        "k0": 1,
        "k2": 1,
        "k4": 1,
    }
    assert "<title>block/attention\nhead 2: 99 %</title>" in picture.svg
    assert "<title>scored\nhead 1: 50 %</title>" in picture.svg
    assert "one_key" not in picture.svg


def test_calls_of_one_attention_have_rows_of_their_own():
    rows = [attention_row("attention/query", [0.5], call=call) for call in (0, 1)]
    (picture,) = attention({"layers": rows})

    assert "<title>attention:0\nhead 1: 50 %</title>" in picture.svg
    assert "<title>attention:1\nhead 1: 50 %</title>" in picture.svg


def test_entropy_over_time_has_a_row_a_head():
    falling = [
        {"step": step, "layers": [attention_row("attention/query", [0.9, entropy])]}
        for step, entropy in ((1, 0.9), (65, 0.5), (129, 0.1))
    ]
    (picture,) = attention_over_time(falling)

    assert {shade: data.count("M") for shade, data in shades(picture.svg).items()} == {
        "k0": 1,
        "k2": 1,
        "k4": 2,  # one head all the time, the other at first
    }
    assert "<title>attention, head 2\nfrom step 129: 10 %</title>" in picture.svg


def test_without_attention_there_is_no_map_of_it():
    assert attention({"layers": [{"path": "dense", "call": 0, "class": "Dense"}]}) == []
    assert attention_over_time([{"step": 1, "layers": []}, {"step": 2, "layers": []}]) == []


def test_trial_lines_are_means_over_the_seeds():
    plain = trial_report().to_plain()["trials"][0]
    titles = [picture.title for picture in trial_pictures(plain)]
    assert titles == [
        "Training loss, before and after",
        "Accuracy on held-out samples",
        "Gradient by depth, before and after",
    ]
    last = math.fsum(r["checkpoints"][-1]["metric"] for r in plain["after"]["runs"]) / 3
    assert f"after: {percent(last)}</title>" in trial_pictures(plain)[1].svg


def test_timelines_number_the_events():
    svg = timelines(history_report().to_plain())[0].svg
    assert re.findall('<text class="en"[^>]*>([0-9]+)</text>', svg) == ["1", "2", "3"]


def test_events_at_one_step_share_a_number_that_names_them_all():
    plain = history_report().to_plain()
    event = plain["history"]["events"][0]
    plain["history"]["events"] = [{**event, "message": f"event {i}"} for i in range(3)]
    svg = timelines(plain)[0].svg

    assert re.findall('<text class="en"[^>]*>([^<]+)</text>', svg) == ["1–3"]
    assert re.search("event 0\\nstep [0-9]+: event 1\\nstep [0-9]+: event 2</title>", svg)


@pytest.mark.slow
def test_timelines_tell_of_losses_that_are_not_finite():
    assert "4 steps gave NaN or infinity" in timelines(history_report().to_plain())[0].caption


def test_a_watched_run_without_snapshots_has_its_curves():
    titles = [picture.title for picture in timelines(history_only_report().to_plain())]
    assert titles == ["Loss", "Gradient norm", "Learning rate"]
