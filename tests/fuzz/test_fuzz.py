"""A few of the spoilt files of `python -m tests.fuzz`: each is read or refused in one line."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest

from tests.fuzz.kinds import KINDS
from tests.fuzz.running import outcomes

# Loading a model takes 50 times as long as refusing a table.
NUMBER = {"keras": 200, "h5": 200, "report": 200}
UNDERSTOOD = {"read", "refused", "no memory"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_spoilt_files_are_read_or_refused(kind, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dict(outcomes(kind, 0, range(NUMBER.get(kind, 400)), tmp_path))
    assert {i: outcome for i, outcome in found.items() if outcome not in UNDERSTOOD} == {}
    # Files that are all refused at the door would try nothing.
    counts = Counter(found.values())
    assert min(counts["read"], counts["refused"]) >= 0.02 * len(found)


def test_input_of_a_number_is_always_the_same():
    import random

    for kind in KINDS.values():
        assert kind.spoilt(random.Random("csv-0-7")) == kind.spoilt(random.Random("csv-0-7"))
