"""Records to plain JSON data and back."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.records import (
    BackwardFactors,
    Check,
    DataCard,
    DataTensor,
    Evidence,
    FeatureScales,
    Finding,
    Histogram,
    LayerProfile,
    LossCard,
    LossTerm,
    ModelCard,
    Prescription,
    Profile,
    TensorStats,
    Timesteps,
    WeightProfile,
)
from gradscope.records.codec import from_plain, loads, to_plain
from gradscope.report.report import Report

PRESCRIPTION = Prescription(
    treatment="he-initialization",
    layers=(),
    parameters={},
    safety="unsafe",
    resolves=("dead-relu",),
    rationale="why",
    snippet="code",
)
finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=8)
maybe = lambda strategy: st.none() | strategy  # noqa: E731
RECORDS = [
    BackwardFactors,
    Check,
    DataCard,
    DataTensor,
    Evidence,
    FeatureScales,
    Finding,
    Histogram,
    LayerProfile,
    LossCard,
    LossTerm,
    ModelCard,
    Prescription,
    TensorStats,
    Timesteps,
    WeightProfile,
]


def finding(**changes) -> Finding:
    values = {
        "symptom": "vanishing-gradient",
        "severity": "error",
        "confidence": "high",
        "layers": ("a:0", "b:0"),
        "culprits": ("a:0",),
        "evidence": (Evidence("total_decades", 9.0, 3.0, "decades"),),
        "message": "It vanishes.",
    }
    return Finding(**{**values, **changes})


def layer(path: str = "dense", call: int = 0) -> LayerProfile:
    return LayerProfile(path, "Dense", call, "relu", True, 1)


def profile_of(*layers: LayerProfile) -> Profile:
    return Profile(
        ModelCard("m", "Sequential", 1, 10),
        DataCard("arrays", 8, 1),
        LossCard("mse", 1.0),
        layers,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_plain_data_turns_back_into_the_record(kind, data):
    """For any field values; `Any`-typed parameters are JSON scalars."""
    record = data.draw(st.builds(kind, **overrides(kind)))

    assert from_plain(kind, json.loads(json.dumps(to_plain(record)))) == record


def overrides(kind: type) -> dict[str, st.SearchStrategy]:
    """Strategies where a field's type says too little (finite floats, evidence, free values)."""
    st.register_type_strategy(float, finite)
    st.register_type_strategy(int, st.integers(1 - 2**63, 2**63 - 1))
    for part in (BackwardFactors, FeatureScales, Histogram, LossTerm, TensorStats, Timesteps):
        st.register_type_strategy(part, st.builds(part, **ranges(part)))
    special = {
        "evidence": st.lists(st.builds(Evidence), min_size=1, max_size=2).map(tuple),
        "resolves": st.lists(names, min_size=1, max_size=2).map(tuple),
        "parameters": st.dictionaries(
            names, finite | names | st.integers(1 - 2**63, 2**63 - 1), max_size=2
        ),
        "weights": st.just(()),
    }
    return ranges(kind) | {
        f.name: special[f.name] for f in dataclasses.fields(kind) if f.name in special
    }


def ranges(kind: type) -> dict[str, st.SearchStrategy]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: in_range(hint) for name, hint in hints.items() if "Annotated" in str(hint)}


def in_range(hint: typing.Any) -> st.SearchStrategy:
    """For a number of `gradscope.records.ranges`, a tuple of them, or one that may be missing."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return st.lists(in_range(parts[0]), max_size=4).map(tuple)
    if typing.get_origin(hint) is not typing.Annotated:
        return maybe(in_range(parts[0]))
    least, most = hint.__metadata__[0]
    if parts[0] is int:
        return st.integers(least, 2**63 - 1)
    return st.floats(least, most, allow_infinity=False)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (BackwardFactors, {"gain": -1.0}),
        (Histogram, {"counts": (1, -1)}),
        (DataTensor, {"one_hot_fraction": 1.5}),
        (Evidence, {"observed": 2**64}),
        (Timesteps, {"gradient_rms": (0.1, -0.1)}),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_name(kind, changes):
    filled = {"name": "x", "role": "x", "shape": [], "dtype": "", "num_samples": 1, "num_read": 1}
    filled |= {"statistic": "n", "threshold": 0.0, "recurrent_gain": (), "half_life": None}
    names = {f.name for f in dataclasses.fields(kind)}
    plain = {k: v for k, v in {**filled, **changes}.items() if k in names}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    with pytest.raises(ValueError, match=f"{next(iter(changes))}: expected"):
        from_plain(kind, plain)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": [-Infinity]}', '{"a": 1e999}'])
def test_text_with_a_number_that_is_not_finite_is_not_json(text):
    with pytest.raises(ValueError, match="finite"):
        loads(text)


def test_the_python_keyword_class_has_its_plain_name_in_json():
    plain = to_plain(layer())

    assert plain["class"] == "Dense"
    assert "class_" not in plain


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="finite numbers or None"):
        to_plain(Evidence("x", value, 1.0))


def test_unknown_keys_are_ignored():
    plain = {**to_plain(Check("a", "clean")), "added_later": 1}

    assert from_plain(Check, plain) == Check("a", "clean")


def test_a_whole_number_is_read_as_float():
    assert from_plain(Evidence, {"statistic": "n", "observed": 3, "threshold": 0}).observed == 3.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"severity": "fatal"}, "Finding.severity: expected one of"),
        ({"layers": "a:0"}, "Finding.layers: expected a list"),
        ({"message": None}, "Finding.message: expected str"),
        ({"evidence": [{"statistic": "x"}]}, "the key 'observed' is missing"),
        ({"evidence": [[]]}, "Finding.evidence: expected an object"),
    ],
)
def test_data_that_do_not_fit_name_the_place(change, words):
    with pytest.raises(ValueError, match=words):
        from_plain(Finding, {**to_plain(finding()), **change})


def test_true_is_no_count():
    with pytest.raises(ValueError, match=r"DataCard\.num_samples: expected int"):
        from_plain(DataCard, {"kind": "arrays", "num_samples": True, "num_batches": 1})


def test_a_finding_needs_evidence():
    with pytest.raises(ValueError, match="needs evidence"):
        finding(evidence=())


def test_a_prescription_must_resolve_something():
    with pytest.raises(ValueError, match="at least one finding"):
        Prescription("he-initialization", (), {}, "safe", (), "why", "code")


def test_layer_calls_are_unique_in_a_profile():
    with pytest.raises(ValueError, match=r"Received twice: \['dense:0'\]"):
        profile_of(layer(), layer())


def test_calls_of_one_layer_are_told_apart():
    assert [row.id for row in profile_of(layer(), layer(call=1)).layers] == ["dense:0", "dense:1"]


@pytest.mark.parametrize("kind", [*RECORDS, Profile, Report], ids=lambda kind: kind.__name__)
def test_records_are_frozen(kind):
    assert kind.__dataclass_params__.frozen


free = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | finite | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=20,
)


@pytest.mark.slow
@given(st.dictionaries(names, free, max_size=4))
def test_parameters_survive_a_file_whatever_they_hold(parameters):
    given = dataclasses.replace(PRESCRIPTION, parameters=parameters)
    assert from_plain(Prescription, loads(json.dumps(to_plain(given)))) == given


@pytest.mark.parametrize("depth", [5, 19])
def test_parameters_may_be_nested(depth):
    assert from_plain(Prescription, nested(depth)).parameters["deep"]


def test_parameters_are_not_nested_for_ever():
    with pytest.raises(ValueError, match="less deeply nested"):
        from_plain(Prescription, nested(50))


def nested(depth: int):
    value: object = 1
    for _ in range(depth - 1):
        value = [value]
    return to_plain(dataclasses.replace(PRESCRIPTION, parameters={"deep": value}))
