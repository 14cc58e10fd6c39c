"""`gradscope inspect` on models that can be examined: what it prints, writes and returns."""

from __future__ import annotations

import json
import sys

import keras
import pytest
import tensorflow as tf

from gradscope.report.load import load_report

FACTORY = """
import keras, numpy as np

def build():
    print("building")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model

def data():
    return np.ones((4, 8), "float32"), np.zeros(4, int)
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "cookbook.py").write_text(FACTORY)
    yield
    sys.modules.pop("cookbook", None)


@pytest.mark.slow
def test_a_healthy_model_returns_0(gradscope, files):
    outcome = gradscope("inspect", files / "healthy.keras", "--data", files / "data.npz")
    assert (outcome.code, outcome.stderr) == (0, "")


@pytest.mark.slow
def test_findings_return_1_and_are_printed(gradscope, files):
    outcome = gradscope("inspect", files / "sick.keras", "--data", files / "data.npz")
    assert outcome.code == 1
    assert "vanishing-gradient" in outcome.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("fail_on", "code"), [("error", 1), ("warning", 1), ("never", 0)])
def test_fail_on_sets_what_counts(gradscope, files, fail_on, code):
    assert gradscope("inspect", files / "sick.keras", "--fail-on", fail_on).code == code


def test_without_data_the_probe_is_synthetic(gradscope, files):
    outcome = gradscope("inspect", files / "healthy.keras", "--format", "json")
    assert json.loads(outcome.stdout)["data"]["kind"] == "synthetic"


@pytest.mark.slow
def test_json_on_stdout_is_the_report_and_nothing_else(gradscope, files):
    outcome = gradscope(
        *("inspect", files / "sick.keras", "--data", files / "data.npz", "--format", "json"),
    )
    report = json.loads(outcome.stdout)
    assert report["schema"] == "gradscope.report/1"
    assert report["data"]["kind"] == "npz"
    assert report["model"]["source"] == str(files / "sick.keras")


@pytest.mark.slow
def test_the_report_says_how_to_make_it_again(gradscope, files):
    outcome = gradscope("inspect", files / "healthy.keras", "--seed", "3", "--format", "json")
    command = json.loads(outcome.stdout)["command"]
    assert command == f"gradscope inspect {files / 'healthy.keras'} --seed 3 --format json"


@pytest.mark.slow
def test_a_csv_file_is_examined(gradscope, files, tmp_path):
    rows = "\n".join(",".join([*("0.5" for _ in range(8)), name]) for name in "abcabc")
    header = ",".join([*(f"f{i}" for i in range(8)), "kind"])
    (tmp_path / "d.csv").write_text(f"{header}\n{rows}\n")
    outcome = gradscope(
        *("inspect", files / "healthy.keras", "--data", "d.csv", "--target", "kind"),
        *("--format", "json", "--fail-on", "never"),
    )
    card = json.loads(outcome.stdout)["data"]
    assert (card["kind"], card["num_samples"]) == ("csv", 6)
    assert "'a'=0, 'b'=1, 'c'=2" in card["note"]


@pytest.mark.slow
def test_a_saved_dataset_is_examined(gradscope, files, tmp_path):
    x = tf.random.stateless_normal((12, 8), seed=(0, 0))
    tf.data.Dataset.from_tensor_slices((x, [0, 1, 2] * 4)).save(str(tmp_path / "d"))
    outcome = gradscope(
        *("inspect", files / "healthy.keras", "--data", "d", "--batch-size", 5),
        *("--format", "json", "--fail-on", "never"),
    )
    card = json.loads(outcome.stdout)["data"]
    assert (card["kind"], card["num_samples"], card["num_batches"]) == ("tf.data", 12, 3)


@pytest.mark.slow
def test_a_folder_of_images_is_examined(gradscope, tmp_path):
    for number, name in enumerate("ab"):
        (tmp_path / "d" / name).mkdir(parents=True)
        pixels = tf.fill((6, 6, 3), tf.cast(100 * number, tf.uint8))
        (tmp_path / "d" / name / "0.png").write_bytes(tf.io.encode_png(pixels).numpy())
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(2, "softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.save(tmp_path / "m.keras")
    outcome = gradscope(
        "inspect", "m.keras", "--data", "d", "--format", "json", "--fail-on", "never"
    )
    card = json.loads(outcome.stdout)["data"]
    assert (card["kind"], card["num_samples"]) == ("images", 2)


@pytest.mark.slow
def test_batches_and_batch_size_set_the_samples(gradscope, files):
    outcome = gradscope(
        *("inspect", files / "healthy.keras", "--data", files / "data.npz"),
        *("--batches", 3, "--batch-size", 5, "--format", "json"),
    )
    card = json.loads(outcome.stdout)["data"]
    assert (card["num_samples"], card["num_batches"]) == (15, 3)


@pytest.mark.slow
def test_github_annotations_name_the_symptom(gradscope, files):
    outcome = gradscope("inspect", files / "sick.keras", "--format", "github")
    assert outcome.stdout.startswith("::error title=")


@pytest.mark.slow
def test_reports_are_written_although_findings_return_1(gradscope, files, tmp_path):
    outcome = gradscope("inspect", files / "sick.keras", "--json", "r.json", "--html", "r.html")
    assert outcome.code == 1
    assert load_report(tmp_path / "r.json").findings
    assert "vanishing-gradient" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_select_examines_only_that(gradscope, files):
    outcome = gradscope(
        *("inspect", files / "sick.keras", "--select", "dead-relu,non-finite-values"),
        *("--format", "json"),
    )
    report = json.loads(outcome.stdout)
    assert {check["symptom"] for check in report["checks"]} == {"dead-relu", "non-finite-values"}


@pytest.mark.slow
def test_ignore_leaves_that_out(gradscope, files):
    outcome = gradscope(
        *("inspect", files / "sick.keras", "--ignore", "vanishing-gradient", "--format", "json"),
    )
    found = {finding["symptom"] for finding in json.loads(outcome.stdout)["findings"]}
    assert "vanishing-gradient" not in found


def test_the_loss_can_be_named(gradscope, files):
    outcome = gradscope("inspect", files / "healthy.keras", "--loss", "mae", "--format", "json")
    assert json.loads(outcome.stdout)["loss"]["name"] == "mae"


@pytest.mark.slow
def test_a_factory_may_print_without_spoiling_stdout(gradscope, factory):
    outcome = gradscope("inspect", "cookbook:build", "--data", "cookbook:data", "--format", "json")
    assert json.loads(outcome.stdout)["model"]["source"] == "cookbook:build"
    assert outcome.stderr == "building\n"


def test_a_model_restored_in_part_is_told_on_stderr(gradscope, tmp_path):
    def my_loss(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", my_loss)
    model.save(tmp_path / "model.keras")
    outcome = gradscope("inspect", "model.keras")
    assert outcome.stderr.startswith("gradscope: note: ")
    assert "'my_loss'" in outcome.stderr


@pytest.mark.slow
def test_the_same_seed_gives_the_same_report(gradscope, files):
    arguments = ("inspect", files / "sick.keras", "--data", files / "data.npz", "--format", "json")
    reports = [json.loads(gradscope(*arguments).stdout) for _ in range(2)]
    for report in reports:  # how long it took is no part of what was found
        report["rehearsal"]["seconds"] = report["rehearsal"]["yardstick"]["seconds"] = 0.0
    assert reports[0] == reports[1]


OPEN = """
import keras

def build():
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model
"""


@pytest.fixture
def open_model(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "openly.py").write_text(OPEN)
    yield "openly:build"
    sys.modules.pop("openly", None)


def test_a_shape_of_made_up_inputs_can_be_asked_for(gradscope, open_model, tmp_path):
    gradscope("inspect", open_model, "--input-shape", "5,2", "--json", tmp_path / "r.json")
    assert len(load_report(tmp_path / "r.json").layers[0].timesteps.gradient_rms) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input-shape", "5,x"], "'5,x' is no shape. Expected 1000,4 or NAME=1000,4."),
        (["--input-shape", "5,-2"], "'5,-2' is no shape."),
        (["--input-shape", "5,2", "--input-shape", "6,2"], "name each shape"),
        (["--input-shape", "5,2", "--data", "d.npz"], "Pass it or --data, not both."),
    ],
)
def test_a_shape_that_is_none_is_refused(gradscope, open_model, arguments, message):
    outcome = gradscope("inspect", open_model, *arguments)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1
