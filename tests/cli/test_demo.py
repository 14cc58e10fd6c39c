"""gradscope demo, with a sample that takes no time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gradscope import samples
from gradscope.samples import Budget, Claim, Sample, Section, Story

BUDGET = Budget(steps=1, seeds=1, size=1)


def quick(id: str, measured: float) -> Sample:
    claim = Claim("one is measured", measured, at_least=1.0, at_most=1.0)
    return Sample(
        id, "a quick one", BUDGET, BUDGET, lambda b: Story((Section("A", "", claims=(claim,)),))
    )


@pytest.fixture
def quick_samples(monkeypatch):
    known = {id: quick(id, value) for id, value in (("sigmoid-depth", 1.0), ("missed", 2.0))}
    monkeypatch.setattr(samples, "registry", lambda: known)


def test_list_names_every_sample_with_a_line_each(gradscope):
    lines = gradscope("demo", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(samples.registry())
    assert all(
        sample.summary in line
        for sample, line in zip(samples.registry().values(), lines, strict=True)
    )


@pytest.mark.usefixtures("quick_samples")
def test_alone_it_runs_the_main_one_and_links_it(gradscope, tmp_path):
    outcome = gradscope("demo")
    folder = tmp_path / "gradscope-demo"
    assert outcome.code == 0
    assert "held      one is measured" in outcome.stdout
    assert {p.name for p in folder.iterdir()} == {
        "index.html", "sigmoid-depth.html", "sigmoid-depth.json",
    }  # fmt: skip
    assert 'href="sigmoid-depth.html"' in (folder / "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("quick_samples")
def test_index_links_what_earlier_runs_left(gradscope, tmp_path):
    gradscope("demo", "missed")
    gradscope("demo")
    index = (tmp_path / "gradscope-demo" / "index.html").read_text(encoding="utf-8")
    assert 'href="sigmoid-depth.html"' in index
    assert 'href="missed.html"' in index


@pytest.mark.usefixtures("quick_samples")
def test_a_claim_that_did_not_hold_ends_with_1(gradscope):
    outcome = gradscope("demo", "missed")
    assert outcome.code == 1
    assert "NOT HELD  one is measured" in outcome.stdout


@pytest.mark.usefixtures("quick_samples")
def test_html_writes_that_page_and_no_folder(gradscope, tmp_path):
    assert gradscope("demo", "--html", "mine.html").code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["mine.html"]


@pytest.mark.usefixtures("quick_samples")
def test_html_for_several_samples_is_one_line(gradscope):
    outcome = gradscope("demo", "missed", "sigmoid-depth", "--html", "mine.html")
    assert "--html is for one sample" in outcome.line
    assert outcome.code == 2


def test_a_name_that_nothing_has_is_one_line(gradscope):
    outcome = gradscope("demo", "sigmoid")
    assert "Did you mean: sigmoid-depth" in outcome.line
    assert outcome.code == 2


def test_a_file_in_the_place_of_the_folder_is_one_line(gradscope, tmp_path):
    (tmp_path / "gradscope-demo").write_text("", encoding="utf-8")
    outcome = gradscope("demo")
    assert "cannot be made here" in outcome.line
    assert outcome.code == 2


def test_a_missing_package_is_one_line(gradscope, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    outcome = gradscope("demo", "healthy")
    assert "pip install mlxtend" in outcome.line
    assert outcome.code == 2


def test_a_sample_is_a_module_that_can_be_run(tmp_path):
    command = [sys.executable, "-m", "gradscope.samples.relu", "--list"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "sigmoid-depth" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
