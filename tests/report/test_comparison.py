"""compare: what got better, what got worse, and what is too small to tell."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

import gradscope
from gradscope.errors import UsageError
from gradscope.records import Check, History, LossCard, Rehearsal
from gradscope.report.comparison import Change, compare
from tests.support.factories import (
    finding,
    healthy_report,
    hostile_names_report,
    layer,
    report,
    sick_sigmoid_report,
)


def with_findings(*found, checks=("dead-relu", "vanishing-gradient")):
    names = {f.symptom for f in found}
    done = tuple(Check(c, "found" if c in names else "clean") for c in checks)
    return report(healthy_report().layers, found, checks=done)


def symptoms(comparison) -> dict[str, tuple]:
    return {
        c.name: (c.before, c.after, c.direction) for c in comparison.changes if c.kind == "symptom"
    }


def numbers(comparison, kind="model") -> dict[str, Change]:
    return {(c.layer or c.name): c for c in comparison.changes if c.kind == kind}


def test_a_report_does_not_differ_from_itself():
    assert compare(sick_sigmoid_report(), sick_sigmoid_report()).changes == ()


def test_a_symptom_that_is_gone_is_better():
    sick = with_findings(finding("dead-relu", ("dense_0",)))

    assert symptoms(compare(sick, with_findings())) == {"dead-relu": ("error", "none", "better")}


def test_a_symptom_that_is_new_is_worse():
    sick = with_findings(finding("dead-relu", ("dense_0",), severity="warning"))

    assert symptoms(compare(with_findings(), sick)) == {"dead-relu": ("none", "warning", "worse")}


def test_a_symptom_that_grew_is_worse_and_the_worst_finding_counts():
    mild = with_findings(finding("dead-relu", ("dense_0",), severity="warning"))
    both = with_findings(
        finding("dead-relu", ("dense_0",)),
        finding("dead-relu", ("dense_1",), severity="warning"),
    )

    assert symptoms(compare(mild, both)) == {"dead-relu": ("warning", "error", "worse")}


def test_a_symptom_that_was_examined_on_one_side_only_is_not_judged():
    sick = with_findings(finding("dead-relu", ("dense_0",)))
    blind = with_findings(checks=("vanishing-gradient",))

    assert symptoms(compare(sick, blind)) == {"dead-relu": ("error", "not examined", "unknown")}
    assert symptoms(compare(with_findings(), blind)) == {}


def test_the_gradient_carried_to_the_inputs_is_compared_in_decades():
    shallow, deep = sick_sigmoid_report(8), sick_sigmoid_report(12)
    change = numbers(compare(shallow, deep))["gradient gained or lost from loss to inputs"]

    # Each of 7 and 11 steps loses -log10(0.21 * 0.65) decades.
    assert change.before == pytest.approx(7 * 0.86487, abs=1e-3)
    assert change.after == pytest.approx(11 * 0.86487, abs=1e-3)
    assert change.direction == "worse"


@pytest.mark.parametrize(("after", "direction"), [(1.0, "better"), (3.0, "worse")])
def test_a_smaller_loss_at_the_end_of_a_training_is_better(after, direction):
    old = dataclasses.replace(healthy_report(), history=History(num_steps=100))
    new = dataclasses.replace(old, loss=LossCard(old.loss.name, after))

    assert numbers(compare(old, new))["loss"].direction == direction


def test_the_loss_at_the_start_is_told_and_not_judged():
    old = healthy_report()
    new = dataclasses.replace(old, loss=LossCard(old.loss.name, 3.0))
    comparison = compare(old, new)

    assert numbers(comparison)["loss"].direction == "unknown"
    assert comparison.worse == ()
    assert "Not judged" in comparison.summary()


@pytest.mark.parametrize(("score", "direction"), [(0.9, "better"), (0.2, "worse")])
def test_a_higher_score_of_a_rehearsal_is_better(score, direction):
    old, new = (
        dataclasses.replace(
            healthy_report(),
            history=History(num_steps=9),
            rehearsal=Rehearsal(9, 1.0, "steps", measure="accuracy", score=value),
        )
        for value in (0.5, score)
    )

    assert numbers(compare(old, new))["accuracy on held-out samples"].direction == direction


def test_losses_of_different_kinds_are_not_compared():
    old = healthy_report()
    new = dataclasses.replace(old, loss=LossCard("mse", 0.1))

    assert compare(old, new).changes == ()


def test_numbers_at_both_ends_of_the_range_are_compared():
    """Their ratio is no number that JSON can hold."""
    report = sick_sigmoid_report()
    ends = [
        dataclasses.replace(layer, update_ratio=1e308 if n % 2 else 1e-308)
        for n, layer in enumerate(report.layers)
    ]
    changes = compare(report, dataclasses.replace(report, layers=tuple(ends)))

    assert changes.to_json()


def test_differences_that_do_not_matter_are_left_out():
    old = healthy_report()
    new = dataclasses.replace(old, loss=LossCard(old.loss.name, old.loss.value * 1.005))

    assert compare(old, new).changes == ()


def test_layers_are_matched_by_path_and_the_largest_change_comes_first():
    rows = [layer(f"d{i}", 0.02, depth=i + 1, dead_fraction=0.0) for i in range(3)]
    old = report(tuple(rows))
    rows[0] = dataclasses.replace(rows[0], dead_fraction=0.2)
    rows[1] = dataclasses.replace(rows[1], dead_fraction=0.9)
    new = report((*rows, layer("added", 0.02, depth=4)))

    changed = [c for c in compare(old, new).changes if c.kind == "layer"]

    assert [(c.layer, c.name, c.after) for c in changed] == [
        ("d1:0", "dead", 0.9),
        ("d0:0", "dead", 0.2),
    ]


def test_inserted_layers_leave_the_others_beside_each_other():
    rows = [layer(f"hidden_{i}", 0.02, depth=3 * i) for i in range(21)]
    added = [
        layer(f"{row.path}_{kind}", 0.02, class_=kind, depth=row.depth + n)
        for row in rows[:20]
        for n, kind in enumerate(("normalization", "activation"), 1)
    ]
    after = sorted((*rows, *added), key=lambda row: row.depth)
    pairs = compare(report(tuple(rows)), report(tuple(after))).pairs

    assert len(pairs) == 61
    assert [a for a, _ in pairs if a] == [row.id for row in rows]
    assert all(a == b for a, b in pairs if a)
    assert [b for a, b in pairs if not a] == [row.id for row in after if row not in rows]


def test_layers_of_other_names_are_matched_by_make_and_place():
    old = (layer("dense", 0.02), layer("drop", 0.02, class_="Dropout"), layer("head", 0.02))
    new = (layer("dense_3", 0.02), layer("norm", 0.02, class_="Norm"), layer("head", 0.02))

    assert compare(report(old), report(new)).pairs == (
        ("dense:0", "dense_3:0"),
        ("drop:0", None),
        (None, "norm:0"),
        ("head:0", "head:0"),
    )


def test_the_picture_has_corresponding_layers_above_each_other():
    rows = [layer(name, 0.02) for name in ("a", "b", "c")]
    page = compare(report((rows[0], rows[2])), report(tuple(rows))).to_html()
    lines = {
        side: re.search(rf'<path class="l {side}" d="(M[^h"]*)"', page).group(1)
        for side in ("s0", "s1")
    }
    across = {side: re.findall(r"[ML]([\d.]+) ", line) for side, line in lines.items()}

    assert len(across["s0"]) == 3
    assert across["s1"] == [across["s0"][0], across["s0"][2]]


def test_the_bar_says_the_balance():
    page = compare(sick_sigmoid_report(), healthy_report()).to_html()

    assert re.search('class="balance"[^>]*aria-label="[1-9][0-9]* better, 0 worse"', page)


def test_better_and_worse_part_the_changes():
    comparison = compare(sick_sigmoid_report(), healthy_report())

    assert comparison.worse == ()
    assert all(c.direction == "better" for c in comparison.better)
    assert comparison.better


def test_text_tells_every_symptom_that_changed():
    sick = with_findings(finding("dead-relu", ("dense_0",)))
    text = compare(sick, with_findings()).summary()

    assert text.startswith("1 change for the better, 0 for the worse.")
    assert "What got better" in text
    assert "dead ReLU    error → none" in text


def test_text_of_no_change():
    assert "No relevant change." in str(compare(healthy_report(), healthy_report()))


def test_json_holds_both_reports_and_the_changes(tmp_path):
    path = tmp_path / "c.json"
    comparison = compare(sick_sigmoid_report(), healthy_report())

    comparison.to_json(path)

    plain = json.loads(path.read_text())
    assert plain["schema"] == "gradscope.comparison/1"
    assert plain["before"] == json.loads(sick_sigmoid_report().to_json())
    assert len(plain["changes"]) == len(comparison.changes)


def test_the_page_is_sealed_and_tells_the_changes(tmp_path):
    path = tmp_path / "c.html"
    page = compare(sick_sigmoid_report(), healthy_report()).to_html(path)

    assert path.read_text(encoding="utf-8") == page
    assert "Content-Security-Policy" in page
    assert "What got better" in page


def test_hostile_names_stay_text_on_the_page():
    page = compare(hostile_names_report(), healthy_report()).to_html()

    assert page.count("<script") == 1
    assert "<img" not in page


def test_a_notebook_shows_the_page_in_a_frame():
    shown = compare(sick_sigmoid_report(), healthy_report())._repr_html_()

    assert shown.startswith("<iframe title=")
    assert "What got better" in shown


def test_it_is_one_line_at_a_prompt():
    found = compare(healthy_report(), sick_sigmoid_report())

    better, worse = len(found.better), len(found.worse)
    assert repr(found) == f"<Comparison: {better} better, {worse} worse>"


def test_it_is_a_public_name():
    assert gradscope.compare is compare


@pytest.mark.parametrize("value", ["run.json", None])
def test_what_is_no_report_is_refused(value):
    with pytest.raises(UsageError, match="Expected a Report"):
        compare(healthy_report(), value)
