"""non-finite-data: NaN or Inf in what the model is given."""

from __future__ import annotations

import dataclasses

from gradscope.records import DataTensor, Evidence, Finding, Profile, Skipped
from gradscope.signals.common import example_chain, num
from gradscope.symptoms import symptom

_ID = "non-finite-data"


def _example(num_non_finite: int) -> Profile:
    profile = example_chain([1e-2] * 4)
    tensor = DataTensor(
        role="x",
        name="x",
        shape=(8,),
        dtype="float32",
        num_samples=1000,
        num_read=1000,
        num_non_finite=num_non_finite,
        num_non_finite_samples=min(num_non_finite, 12),
        first_non_finite=307 if num_non_finite else None,
        minimum=-3.0,
        maximum=1e30,
    )
    data = dataclasses.replace(profile.data, tensors=(tensor,))
    return dataclasses.replace(profile, data=data)


@symptom(
    id=_ID,
    precedence=10,
    summary="x, y or sample_weight holds NaN or Inf",
    why=(
        "The first batch with such a sample makes the loss NaN, and every weight with it: "
        "everything learned until then is lost, often only after many good steps."
    ),
    measured=(
        "Entries that are NaN or infinite: in all samples of arrays, not only those the model "
        "runs on; in the batches read of data sets and generators. An array of over 1 GB is read "
        "in evenly spaced blocks that add up to about 1 GB."
    ),
    silent="Large but finite values; integers and text, which cannot hold NaN; made-up inputs.",
    needs=("data",),
    measures=(),
    treatments=(),
    sources=("IEEE 754: every arithmetic operation on NaN gives NaN",),
    sick=lambda: _example(40),
    healthy=lambda: _example(0),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    if not profile.data.tensors:
        return Skipped(_ID, "x and y were not examined")
    bad = [tensor for tensor in profile.data.tensors if tensor.num_non_finite]
    if not bad:
        return []
    return [
        Finding(
            symptom=_ID,
            severity="error",
            confidence="high",
            layers=(),
            culprits=(),
            evidence=tuple(
                Evidence("num_non_finite", float(t.num_non_finite), 0.0, f"entries of {t.name}")
                for t in bad
            ),
            message=" ".join(_sentence(tensor) for tensor in bad)
            + " One such sample turns every weight into NaN: drop these samples or fill the gaps.",
        )
    ]


def _sentence(tensor: DataTensor) -> str:
    seen = "" if tensor.num_read == tensor.num_samples else " looked at"
    what = num(tensor.num_non_finite, "entry").replace("entrys", "entries")
    return (
        f"{tensor.name} holds NaN or Inf in {tensor.num_non_finite_samples:,} of "
        f"{num(tensor.num_read, 'sample')}{seen} ({what}), first in sample "
        f"{tensor.first_non_finite}."
    )
