"""Code that users paste: a loop over many layers is as short as their names allow."""

from __future__ import annotations

import pytest

from gradscope.treatments.support.wording import fold_names

NUMBERED = [f"hidden_{i}" for i in range(1, 21)]


@pytest.mark.parametrize(
    ("names", "is_folded"),
    [
        (NUMBERED, True),
        ([f"block/dense_{i}" for i in range(8)], True),
        (NUMBERED[:3], False),
        ([*NUMBERED, "output"], False),
        (["dense", *(f"dense_{i}" for i in range(1, 9))], True),
        (["dense", "head", *(f"dense_{i}" for i in range(1, 9))], False),
        ([f"layer_{i:02}" for i in range(5, 15)], False),
        ([f"it's_{i}" for i in range(9)], False),
        ([f"{{x}}{i}" for i in range(9)], False),
    ],
)
def test_a_list_of_names_is_folded_and_stays_the_list(names, is_folded):
    source = fold_names(names)

    assert eval(source) == names
    assert (" for i in range(" in source) == is_folded
