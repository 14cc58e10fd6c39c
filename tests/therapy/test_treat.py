"""treat: the smallest proven set, a patient left alone, and honest failures."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.errors import UsageError
from gradscope.records import (
    Arm,
    Checkpoint,
    ConstantPrediction,
    Prescription,
    Run,
    Trial,
    YardstickRun,
)
from gradscope.report.load import load_report
from gradscope.therapy.apply_prescriptions import carry_out
from gradscope.therapy.treat_model import Outcome, _tell_what_is_left, admit
from gradscope.trials.splits import split
from tests.support import factories
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.snapshot import Snapshot
from tests.support.training_models import blobs, classifier, learner, samples, sick

PLAN = {"steps": 120, "batch_size": 16}


@pytest.fixture(scope="module")
def patient() -> keras.Model:
    return sick()


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def before(patient) -> Snapshot:
    return Snapshot(patient)


@pytest.fixture(scope="module")
def outcome(patient, before, told):
    return gradscope.treat(patient, *samples(), **PLAN, progress=told.append)


@pytest.mark.slow
def test_what_is_kept_is_proven(outcome):
    assert outcome.status == "improved"
    assert outcome.trial.verdict == "improved"
    assert outcome.trial.difference > 0.3
    assert len(outcome.trial.seeds) == 3
    assert outcome.trial.treatments == tuple(p.treatment for p in outcome.prescriptions)


def test_the_patient_is_left_as_it_was(outcome, patient, before):
    assert before.differences(Snapshot(patient)) == []


@pytest.mark.slow
def test_the_result_trains(outcome):
    x, y = samples()
    copy = carry_out(sick(), outcome.prescriptions, x).model
    copy.compile(copy.optimizer, copy.loss, metrics=["accuracy"])
    history = copy.fit(x, y, epochs=10, batch_size=16, verbose=0).history

    assert history["accuracy"][-1] > 0.9


def test_the_result_is_not_trained_and_shares_nothing(outcome, patient):
    assert int(outcome.model.optimizer.iterations) == 0
    own = {id(v) for v in outcome.model.variables}
    assert own.isdisjoint(id(v) for v in patient.variables)


def test_one_illness_is_answered_by_one_treatment(outcome):
    assert len(outcome.prescriptions) == 1


def test_every_candidate_is_kept_or_rejected_with_a_reason(outcome):
    prescribed = {p.treatment for p in outcome.report.prescriptions}
    named = {id for d in outcome.rejected for id in d.what.split(" + ")}

    assert prescribed <= named | {p.treatment for p in outcome.prescriptions}
    assert all(len(d.reason) >= 15 for d in outcome.rejected)


def test_both_sides_are_examined(outcome):
    before, after = outcome.trial.before, outcome.trial.after

    assert "dead-relu" in {f.symptom for f in before.findings}
    assert "dead-relu" not in {f.symptom for f in after.findings}
    assert len(before.gradient_norms) == len(after.gradient_norms) == 2
    assert all(norm > 0.0 for norm in (*before.gradient_norms, *after.gradient_norms))


def test_progress_tells_what_is_done(told, outcome):
    assert told[:2] == ["rehearsing the training", "training the patient"]
    assert told[-1] == f"training {outcome.prescriptions[0].treatment}"


def test_the_report_comes_back_from_json(outcome, tmp_path):
    outcome.report.to_json(tmp_path / "run.json")

    assert load_report(tmp_path / "run.json") == outcome.report
    plain = json.loads((tmp_path / "run.json").read_text())
    assert plain["outcome"] == "improved"
    assert plain["kept"][0]["treatment"] == outcome.prescriptions[0].treatment


def test_the_summary_tells_evidence_rejections_and_code(outcome):
    text = str(outcome)

    first = outcome.prescriptions[0].treatment.replace("-", " ").capitalize()
    assert text.startswith(f"IMPROVED  {first}")
    assert "Against: " in text
    assert outcome.trial.reason in " ".join(text.split())
    assert all(d.what in text for d in outcome.rejected)
    assert "The same in your own code" in text
    assert text.endswith(outcome.next_steps)
    assert outcome.next_steps.startswith("Train outcome.model in place of your model")


def test_it_is_one_line_at_a_prompt_and_a_page_elsewhere(outcome, monkeypatch, tmp_path):
    kept = " + ".join(p.treatment for p in outcome.prescriptions)

    assert repr(outcome) == f"<Outcome: improved by {kept}>"
    monkeypatch.setattr("webbrowser.open", lambda _: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert outcome.show().read_text(encoding="utf-8") == outcome.report.to_html()
    assert kept.replace("-", " ") in outcome._repr_html_()


@pytest.mark.slow
def test_a_healthy_model_is_given_nothing():
    keras.utils.set_random_seed(0)
    outcome = gradscope.treat(learner(0), *samples(), **PLAN)

    assert (outcome.status, outcome.prescriptions, outcome.trial) == ("healthy", (), None)
    assert outcome.report.trials == ()
    assert str(outcome).startswith("HEALTHY")
    assert outcome.next_steps == "Train your model as it is."


def test_a_model_that_cannot_be_rehearsed_is_not_called_healthy():
    class Stubborn(keras.layers.Layer):
        """Made from arguments that no config holds."""

        def __init__(self, trouble):
            super().__init__()
            self.trouble = trouble

        def call(self, x):
            return x

    class Trouble(Exception):
        pass

    x, y = samples()
    model = keras.Sequential([Stubborn(Trouble()), keras.layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model(x[:1])

    outcome = gradscope.treat(model, x, y, **PLAN)

    assert outcome.status == "nothing to prescribe"
    assert "the training could not be examined" in str(outcome)


def test_what_only_the_labels_can_mend_is_told_as_code():
    x, y = normal(64, 16), 1000.0 * (np.arange(64) % 3) + 7
    model = sequential(layers.Dense(1, "sigmoid"), loss="binary_crossentropy", shape=(16,))
    report = gradscope.analyze(model, x, y)

    for status in ("not improved", "nothing to prescribe"):
        told = Outcome(model, report, None, (), status).next_steps
        assert "y = np.unique(y, return_inverse=True)[1].reshape(y.shape)" in told


def test_a_copy_is_not_trained_for_as_long_as_its_patient_would_need():
    arm = Arm((), ())
    trial = Trial(
        ("learning-rate",),
        (0,),
        300,
        arm,
        arm,
        "improved",
        32,
        "accuracy",
        0.5,
        0.1,
        0.01,
        "It is.",
    )
    longer = Prescription(
        "longer-training", (), {"epochs": 1900}, "advice", ("undertraining",), "why", "code"
    )
    patient = factories.report((), prescriptions=(longer,), outcome="improved")

    told = Outcome(classifier(0), patient, trial, (), "improved").next_steps

    assert "for at least the 300 steps of its trial" in told
    assert "1,900" not in told


def test_of_a_slow_learner_the_rates_are_tried():
    """A slow start is worth a note to who watches; whoever treats it needs a rate that is not."""
    x, y = blobs().training[:2]
    keras.utils.set_random_seed(0)
    model = classifier(0, optimizer=keras.optimizers.Adam(1.4e-3))

    report = admit(model, x, y, 60, 32, None).report

    [slow] = [f for f in report.findings if f.symptom == "underfitting"]
    assert slow.severity == "warning"
    assert report.rehearsal.range_test.suggestion > 1e-3
    [rate] = [p for p in report.prescriptions if p.treatment == "learning-rate"]
    assert rate.parameters["learning_rate"] == pytest.approx(
        report.rehearsal.range_test.suggestion, rel=0.1
    )


@pytest.mark.slow
def test_where_labels_are_noise_no_treatment_helps():
    x, _ = samples()
    noise = np.random.default_rng(5).integers(0, 3, len(x))
    outcome = gradscope.treat(sick(), x, noise, **PLAN, only=["swap-activation"])

    assert outcome.status == "not improved"
    assert outcome.prescriptions == ()
    assert all(trial.verdict != "improved" for trial in outcome.report.trials)
    assert "No treatment helped" in str(outcome)


@pytest.mark.slow
def test_only_some_treatments_are_considered():
    outcome = gradscope.treat(sick(), *samples(), **PLAN, only=["learning-rate"])

    assert {id for t in outcome.report.trials for id in t.treatments} <= {"learning-rate"}


@pytest.mark.slow
def test_samples_with_nan_are_left_out_and_told():
    x, y = samples()
    x[::20, 3] = np.nan
    outcome = gradscope.treat(sick(), x, y, **PLAN)

    assert outcome.status == "improved"
    np.testing.assert_array_equal(outcome.rows, np.isfinite(x).all(1))
    assert f"without the {(~outcome.rows).sum()} samples" in outcome.next_steps
    assert "10 samples with NaN or Inf left out" in outcome.trial.note


@pytest.mark.slow
def test_two_workers_come_to_the_same():
    one = gradscope.treat(sick(), *samples(), **PLAN, only=["swap-activation"])
    two = gradscope.treat(sick(), *samples(), **PLAN, only="swap-activation", jobs=2)

    assert [p.treatment for p in one.prescriptions] == [p.treatment for p in two.prescriptions]
    assert two.trial.difference == pytest.approx(one.trial.difference, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 1}, "seeds must be a whole number of at least 2"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"jobs": 0}, "jobs must be a whole number"),
        ({"only": ["swap-activatoin"]}, "swap-activation"),
        ({"only": "swap-activatoin"}, "Unknown treatment 'swap-activatoin'"),
    ],
)
def test_arguments_that_cannot_be(wrong, message):
    with pytest.raises(UsageError, match=message):
        gradscope.treat(sick(), *samples(), **{**PLAN, **wrong})


def test_a_model_that_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3)])

    with pytest.raises(UsageError, match="needs a compiled"):
        gradscope.treat(model, *samples())


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupt_leaves_the_patient_as_it_was(at):
    patient = sick()
    before = Snapshot(patient)
    lines = []

    def interrupt(line):
        lines.append(line)
        if len(lines) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gradscope.treat(patient, *samples(), **PLAN, progress=interrupt)
    assert before.differences(Snapshot(patient)) == []


@pytest.mark.slow
def test_default_steps_are_ten_epochs_within_bounds():
    model = sick()
    few = admit(model, *samples(100), None, 32, None)
    some = admit(model, *samples(1000), None, 32, None)
    many = admit(model, *samples(4000), None, 32, None)

    assert [few.steps, some.steps, many.steps] == [200, 250, 300]


@pytest.mark.slow
def test_data_sets_are_read_into_memory():
    import tensorflow as tf

    x, y = samples()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
    outcome = gradscope.treat(sick(), batches, **PLAN, only=["swap-activation"])

    assert outcome.status == "improved"
    assert split(batches).training.num_samples == 160


@pytest.mark.slow
def test_a_killed_dask_worker_loses_nothing(tmp_path):
    """Two workers of a real local cluster; one is killed in the middle of its runs."""
    distributed = pytest.importorskip("distributed")
    import joblib

    from gradscope.trials.paired import compare

    mark, parent = str(tmp_path / "killed"), os.getpid()

    def frail(seed):
        if os.getpid() != parent and seed == 1 and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), 9)
        return learner(seed)

    plan = {"steps": 20, "batch_size": 16, "seeds": (0, 1, 2)}
    alone = compare(learner, frail, blobs(), **plan)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        spread = compare(learner, frail, blobs(), **plan, jobs=4)

    assert os.path.exists(mark)
    for one, two in ((alone.before, spread.before), (alone.after, spread.after)):
        assert [run.seed for run in two.runs] == [0, 1, 2]
        for a, b in zip(one.runs, two.runs, strict=True):
            np.testing.assert_allclose(a.losses, b.losses, rtol=1e-3, atol=1e-5)
    assert spread.verdict == alone.verdict


@pytest.mark.parametrize(
    ("reached", "output", "told"),
    [
        (0.3, None, "0.3, and a plain network 0.9"),
        (0.85, None, ""),
        (0.3, "price", "0.3, and a plain network 0.8"),  # a share of the worst output
        (0.7, "price", ""),
    ],
)
def test_what_a_treated_model_still_lacks_is_told(reached, output, told):
    run = Run(0, 9, (), (Checkpoint(9, None, reached),), diverged=False, seconds=0.0)
    beside = YardstickRun("dense network", 9, 0.0, score=0.9, share=0.8)
    rehearsal = SimpleNamespace(
        yardstick=beside, constant=ConstantPrediction(score=0.5), output=output
    )
    trial = SimpleNamespace(after=Arm((run,)), measure="accuracy")
    left = _tell_what_is_left(trial, SimpleNamespace(rehearsal=rehearsal))

    assert left.endswith(told)
    assert bool(left) == bool(told)
