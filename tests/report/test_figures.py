"""Report.plot, Report.to_frame and Report.show: what they hold is what the report holds."""

from __future__ import annotations

import html
import sys
import webbrowser

import numpy as np
import pytest

import gradscope
from gradscope.errors import UsageError
from tests.support.factories import healthy_report, sick_sigmoid_report
from tests.support.reports import history_report, trial_report


@pytest.fixture(scope="module")
def sick():
    return sick_sigmoid_report()


def line_of(figure) -> np.ndarray:
    return figure.axes[0].lines[0].get_ydata()


def test_the_gradient_of_every_layer_is_drawn_and_the_culprits_are_red(sick):
    figure = sick.plot()
    layers = [layer for layer in sick.layers if layer.activation_gradient]

    np.testing.assert_array_equal(line_of(figure), [v.activation_gradient.rms for v in layers])
    labels = figure.axes[0].get_xticklabels()
    red = {label.get_text() for label in labels if label.get_color() != "black"}
    assert red == {culprit.removesuffix(":0") for culprit in sick.findings[0].culprits}


def test_a_row_of_the_histograms_is_the_share_in_each_octave(sick):
    [image] = sick.plot("histograms").axes[0].images
    shares = image.get_array()
    first = next(v.activation_gradient.histogram for v in sick.layers if v.activation_gradient)

    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    expected = np.asarray(first.counts) / sum(first.counts)
    np.testing.assert_allclose(shares[0][shares[0] > 0], expected[expected > 0])


def test_the_loss_of_a_watched_run():
    report = history_report()
    drawn = line_of(report.plot("loss"))

    expected = [np.nan if v is None else v for v in report.history.loss.mean]
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("kind", ["gradient", "signal", "saturation", "histograms"])
def test_every_figure_can_be_saved(sick, kind, tmp_path):
    sick.plot(kind).savefig(tmp_path / "figure.pdf")

    assert (tmp_path / "figure.pdf").stat().st_size > 1000


@pytest.mark.parametrize(
    ("kind", "message"), [("gradients", "gradients.*gradient"), ("loss", "holds no training")]
)
def test_what_cannot_be_drawn_is_told_in_one_line(sick, kind, message):
    with pytest.raises(UsageError, match=message) as told:
        sick.plot(kind)
    assert "\n" not in str(told.value)


def test_a_frame_has_a_row_a_layer_and_the_columns_of_the_json(sick):
    pytest.importorskip("pandas", reason="needs the extra `pandas`")
    frame = sick.to_frame()

    assert list(frame["path"]) == [layer.path for layer in sick.layers]
    last = sick.layers[-1].activation_gradient
    assert frame["activation_gradient.rms"].iloc[-1] == last.rms


def test_a_frame_without_pandas_is_one_line(sick, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        sick.to_frame()


@pytest.fixture
def opened(monkeypatch, tmp_path) -> list[str]:
    """What was opened in a browser; none is started."""
    found: list[str] = []
    monkeypatch.setattr(webbrowser, "open", found.append)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return found


def test_show_opens_the_page(sick, opened):
    path = sick.show()

    assert opened == [path.as_uri()]
    assert path.read_text(encoding="utf-8") == sick.to_html()


def test_show_opens_a_trial_and_a_comparison(sick, opened):
    trial = trial_report().trials[0]
    comparison = gradscope.compare(sick, healthy_report())
    paths = [trial.show(), comparison.show()]

    assert opened == [path.as_uri() for path in paths]
    assert trial.reason in html.unescape(paths[0].read_text(encoding="utf-8"))
    assert paths[1].read_text(encoding="utf-8") == comparison.to_html()


def test_a_trial_is_printed_with_the_result_of_every_seed():
    trial = trial_report().trials[0]
    text = str(trial)

    assert trial.reason in " ".join(text.split())
    assert all(f"held-out accuracy, seed {seed}" in text for seed in trial.seeds)
    assert "\n" not in repr(trial)
