"""Every sample at its reduced budget: what it claims is what it measures."""

from __future__ import annotations

import pytest

pytest.importorskip("mlxtend", reason="needs the extra `samples`")

from gradscope.samples import registry


@pytest.mark.slow
@pytest.mark.parametrize("id", registry())
def test_every_claim_holds(id):
    sample = registry()[id]
    story = sample.run(sample.reduced)

    assert len(story.claims) >= 3
    assert [claim for claim in story.claims if not claim.holds] == []
