"""The examples of the documentation: one a symptom, and what is shown of each is what it gives."""

from __future__ import annotations

import re

import pytest

from docs import example_runs, reference_pages
from gradscope import treatments
from gradscope.symptoms import registry

PAGES = dict(reference_pages.pages())


def without_numbers(text: str) -> str:
    """As another processor would write it: numbers and counted layers may differ in a digit."""
    return re.sub(r"\d[\d,.e+-]*", "#", text)


@pytest.mark.parametrize("symptom", registry())
def test_every_symptom_has_an_example_whose_page_shows_code_and_finding(symptom):
    """Where it does not, add a file to docs/examples and run `make examples`."""
    page, known = PAGES[f"symptoms/{symptom}.md"], example_runs.results()[symptom]

    assert known["symptom"] == symptom
    assert example_runs.source(symptom).strip() in page
    assert known["message"] in " ".join(page.split())
    assert all(p["treatment"] in registry()[symptom].treatments for p in known["prescriptions"])
    assert known["cure"] is None or known["cure"]["treatment"] in page


def test_treatments_that_an_example_prescribes_show_it_on_their_page():
    shown = {
        p["treatment"] for run in example_runs.results().values() for p in run["prescriptions"]
    }
    with_example = {
        id for id in treatments.registry() if "## Example" in PAGES[f"treatments/{id}.md"]
    }

    assert with_example == shown
    # What longer training is prescribed for would take longer than an example may.
    assert set(treatments.registry()) - shown <= {"longer-training"}


@pytest.mark.slow
@pytest.mark.parametrize("id", example_runs.ids())
def test_an_example_gives_what_its_page_shows(id):
    """Where it does not any more, `python -m docs.example_runs ID` writes it anew."""
    known, found = example_runs.results()[id], example_runs.run(id)

    assert found["severity"] == known["severity"]
    assert without_numbers(found["message"]) == without_numbers(known["message"])
    assert (found["cure"] or {}).get("treatment") == (known["cure"] or {}).get("treatment")
