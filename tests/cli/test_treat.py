"""`gradscope treat`: what it writes, prints and returns, and what it never does."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from gradscope.report.load import load_report
from tests.support.training_models import samples, sick

QUICK = ("--steps", "120", "--batch-size", "16", "--only", "swap-activation")


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A folder with dead.keras, well.keras, data.npz and noise.npz."""
    folder = tmp_path_factory.mktemp("ward")
    model = sick()
    model.save(folder / "dead.keras")
    model.get_layer("hidden").bias.assign(np.zeros(16))
    model.save(folder / "well.keras")
    x, y = samples()
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "noise.npz", x=x, y=np.random.default_rng(5).integers(0, 3, len(x)))
    gaps = x.copy()
    gaps[::20] = np.nan
    np.savez(folder / "gaps.npz", x=gaps, y=y)
    return folder


@pytest.mark.slow
def test_the_treated_model_is_written_with_the_evidence(gradscope, ward, tmp_path):
    data = ("--data", ward / "data.npz")
    before = (ward / "dead.keras").read_bytes()
    outcome = gradscope(
        "treat", ward / "dead.keras", *data, "-o", "fixed.keras", *QUICK,
        "--html", "r.html", "--json", "r.json",
    )  # fmt: skip

    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("IMPROVED  Swap activation: accuracy ")
    assert (ward / "dead.keras").read_bytes() == before
    fixed = keras.saving.load_model(tmp_path / "fixed.keras")
    x, y = samples()
    fixed.fit(x, y, epochs=10, batch_size=16, verbose=0)
    assert np.mean(fixed.predict(x, verbose=0).argmax(-1) == y) > 0.9
    report = load_report(tmp_path / "r.json")
    assert report.outcome == "improved"
    assert report.model.source == str(ward / "dead.keras")
    assert report.data.kind == "npz"
    assert report.command.startswith("gradscope treat")
    assert "swap-activation" in (tmp_path / "r.html").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fixed.keras", "r.html", "r.json"]


@pytest.mark.slow
def test_json_goes_to_stdout_alone(gradscope, ward):
    outcome = gradscope(
        "treat", ward / "dead.keras", "--data", ward / "data.npz", "-o", "f.keras", *QUICK,
        "--format", "json",
    )  # fmt: skip

    assert json.loads(outcome.stdout)["kept"][0]["treatment"] == "swap-activation"


@pytest.mark.slow
def test_a_healthy_model_is_left_alone(gradscope, ward, tmp_path):
    data = ("--data", ward / "data.npz")
    outcome = gradscope("treat", ward / "well.keras", *data, "-o", "fixed.keras")

    assert outcome.code == 0
    assert outcome.stdout.startswith("HEALTHY")
    assert "fixed.keras is not written" in outcome.stderr
    assert not (tmp_path / "fixed.keras").exists()


@pytest.mark.slow
def test_where_nothing_helps_an_older_file_stays(gradscope, ward, tmp_path):
    (tmp_path / "fixed.keras").write_text("older")
    data = ("--data", ward / "noise.npz")
    outcome = gradscope("treat", ward / "dead.keras", *data, "-o", "fixed.keras", *QUICK)

    assert outcome.code == 1
    assert "No treatment helped" in outcome.stdout
    assert (tmp_path / "fixed.keras").read_text() == "older"


@pytest.mark.slow
def test_samples_with_nan_are_told(gradscope, ward):
    data = ("--data", ward / "gaps.npz")
    outcome = gradscope("treat", ward / "dead.keras", *data, "-o", "fixed.keras", *QUICK)

    assert outcome.code == 0
    assert "10 samples hold NaN or Inf" in outcome.stderr


@pytest.mark.slow
def test_an_interrupt_while_writing_leaves_nothing(gradscope, ward, tmp_path, monkeypatch):
    def interrupted(self, path, **options):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save", interrupted)
    data = ("--data", ward / "data.npz")
    outcome = gradscope("treat", ward / "dead.keras", *data, "-o", "fixed.keras", *QUICK)

    assert outcome.code == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["m.keras", "-o", "f.keras"], 2, "Missing option '--data'"),
        (["m.keras", "--data", "d.npz"], 2, "Missing option '-o'"),
        (["m.keras", "--data", "d.npz", "-o", "f.h5"], 2, "must end in .keras"),
        (["m.keras", "--data", "d.npz", "-o", "no/f.keras"], 2, "no folder 'no'"),
        (["m.keras", "--data", "d.npz", "-o", "f.keras", "--only", "swap"], 2, "swap-activation"),
        (["m.keras", "--data", "d.npz", "-o", "f.keras", "--seeds", "1"], 2, "--seeds"),
        (["m.keras", "--data", "d.npz", "-o", "f.keras"], 3, "m.keras"),
    ],
)
def test_what_goes_wrong_is_one_line(gradscope, arguments, code, expected):
    outcome = gradscope("treat", *arguments)

    assert outcome.code == code
    assert expected in outcome.line


def test_a_model_that_is_not_compiled_is_refused(gradscope, ward, tmp_path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    model.save(tmp_path / "bare.keras")
    outcome = gradscope("treat", "bare.keras", "--data", ward / "data.npz", "-o", "f.keras")

    assert outcome.code == 2
    assert "compiled" in outcome.line


def test_the_data_have_to_hold_labels(gradscope, ward, tmp_path):
    np.savez(tmp_path / "x.npz", x=samples()[0])
    outcome = gradscope("treat", ward / "dead.keras", "--data", "x.npz", "-o", "f.keras")

    assert outcome.code == 3
    assert "no labels" in outcome.line


def test_help_names_the_exit_codes(gradscope):
    outcome = gradscope("treat", "--help")

    assert outcome.code == 0
    assert "1 no treatment helped" in " ".join(outcome.stdout.split())
