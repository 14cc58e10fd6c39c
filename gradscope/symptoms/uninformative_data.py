"""uninformative-data: inputs or labels that are the same for every sample, or sorted by class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from gradscope.records import DataTensor, Evidence, Finding, LossTerm, Profile, Severity, Skipped
from gradscope.signals.common import example_chain
from gradscope.signals.losses import CROSSENTROPIES, is_distance, num_units
from gradscope.symptoms import symptom

_ID = "uninformative-data"
_ENOUGH = 16  # samples; fewer may be alike by chance


def _example(largest: float) -> Profile:
    profile = example_chain([1e-2] * 4)
    x = DataTensor("x", "x", (4,), "float32", 128, 128, minimum=1.0, maximum=largest)
    return dataclasses.replace(profile, data=dataclasses.replace(profile.data, tensors=(x,)))


@symptom(
    id=_ID,
    precedence=42,
    measures=(),
    summary="the inputs or labels are the same for every sample, or come sorted by class",
    why=(
        "From inputs that never change only the mean label can be learned, and labels that never "
        "change are learned by a bias alone. Sorted samples do the same to each batch: the model "
        "learns one class and forgets it for the next, and validation_split cuts off the last "
        "class."
    ),
    measured=(
        "Smallest and largest value of every tensor of x and y, whether all rows, or all batches, "
        "are equal, and whether labels are sorted by class."
    ),
    silent=(
        "Labels under a custom loss, which may not use them; constant inputs and targets next to "
        "others that vary; fewer than 16 samples."
    ),
    needs=("data",),
    treatments=(),
    sources=(
        "Bottou 2012, Stochastic gradient descent tricks, section 4.1: shuffle the examples",
        "Keras, Model.fit: validation_split takes the last samples, before shuffling",
    ),
    sick=lambda: _example(1.0),
    healthy=lambda: _example(2.0),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    tensors = [t for t in profile.data.tensors if None not in (t.minimum, t.maximum)]
    if not tensors:
        return Skipped(_ID, "no numbers of the data were read", lacks_data=True)
    return [
        *_inputs([t for t in tensors if t.role == "x"]),
        *_repeats(profile, tensors),
        *(found for term in profile.loss.terms for found in _labels(term, profile)),
    ]


def _inputs(tensors: list[DataTensor]) -> Iterator[Finding]:
    constant = [t for t in tensors if _is_constant(t)]
    if not constant:
        return
    names = ", ".join(t.name for t in constant)
    is_all = len(constant) == len(tensors)
    effect = "the samples cannot be told apart" if is_all else "nothing can be learned from it"
    yield _make_finding(
        "error" if is_all else "info", f"{names} is the same for every sample: {effect}."
    )


def _repeats(profile: Profile, tensors: list[DataTensor]) -> Iterator[Finding]:
    """A generator may have drawn once for all; a whole data set in each batch is no fault."""
    seen = [t for t in tensors if t.role != "sample_weight" and not _is_constant(t)]
    if not seen or not all(t.is_repeated for t in seen):
        return
    num_batches = profile.data.num_batches if profile.history is None else 0
    often = f"The {num_batches} batches" if num_batches else "The batches"
    is_drawn = profile.data.kind in ("generator", "PyDataset")
    yield _make_finding(
        "warning" if is_drawn else "info",
        f"{often} that were read hold the same samples: unless these are all that there are, "
        "have each batch drawn anew.",
    )


def _labels(term: LossTerm, profile: Profile) -> Iterator[Finding]:
    labels = term.labels
    judged = term.loss in CROSSENTROPIES or is_distance(term)
    if labels is None or labels.minimum is None or not judged:
        return
    is_whole_array = profile.data.kind == "arrays"
    if _is_constant(labels):
        yield _constant_labels(term, labels, profile)
    elif labels.is_sorted and labels.num_read >= _ENOUGH:
        where = f"The samples come sorted by the labels of {labels.name}"
        if is_whole_array:
            text = (
                "fit shuffles them, but validation_split first takes the last ones, all of one "
                "class"
            )
            yield _make_finding("info", f"{where}: {text}.")
        else:
            text = "each batch holds one class: shuffle the data set over all of its samples"
            yield _make_finding("warning", f"{where}, so that {text}.")


def _constant_labels(term: LossTerm, labels: DataTensor, profile: Profile) -> Finding:
    """Of a data set a part was read, where the rarer of two classes may just not have come up."""
    is_whole, is_class = profile.data.kind == "arrays", term.loss in CROSSENTROPIES
    others = any(t.labels and not _is_constant(t.labels) for t in profile.loss.terms)
    severity: Severity = "error" if is_class and is_whole else "warning"
    if (others and not is_class) or (is_class and not is_whole and num_units(term) <= 2):
        severity = "info"
    what = "of one class" if is_class else "the same"
    remedy = "" if is_whole else ", or the data are sorted: shuffle them"
    return _make_finding(
        severity,
        f"All {labels.num_read} labels of {labels.name} that were read are {what}: a constant "
        f"output meets them{remedy}.",
    )


def _is_constant(tensor: DataTensor) -> bool:
    is_one = tensor.minimum == tensor.maximum or bool(tensor.is_one_row and len(tensor.shape) == 1)
    return is_one and tensor.num_read >= _ENOUGH and not tensor.num_non_finite


def _make_finding(severity: Severity, message: str) -> Finding:
    return Finding(
        symptom=_ID,
        severity=severity,
        confidence="high",
        layers=(),
        culprits=(),
        evidence=(Evidence("num_distinct", 1.0, 1.0),),
        message=message,
    )
