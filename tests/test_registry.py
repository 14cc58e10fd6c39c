"""Registries, in processes that imported one of their files first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gradscope.registry import load_all


@pytest.mark.parametrize(
    ("folder", "module"),
    [("symptoms", "dead_relu"), ("treatments", "gradient_clipping"), ("samples", "relu")],
)
def test_a_file_that_was_imported_before_is_in_the_registry(folder, module):
    script = (
        f"import gradscope.{folder}.{module}; from gradscope.{folder} import registry; "
        f"print({module.replace('_', '-')!r} in registry())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stdout == "True\n", done.stderr


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two empty modules."""
    folder = tmp_path / "entries"
    folder.mkdir()
    for name in ("__init__", "empty", "helper"):
        (folder / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return [str(folder)]


def test_a_file_that_registers_nothing_is_an_error(package):
    with pytest.raises(ImportError, match=r"entries/empty.py registers no entry"):
        load_all("entries", package, {}, "entry", lambda entry: entry)


def test_a_module_that_is_set_apart_need_not_register(package):
    assert load_all("entries", package, {}, "entry", lambda e: e, apart=("empty", "helper")) == {}
