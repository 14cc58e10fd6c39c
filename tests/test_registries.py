"""The registries, in processes that imported one of their files first."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("folder", "module"), [("symptoms", "dead_relu"), ("treatments", "gradient_clipping")]
)
def test_a_file_that_was_imported_before_is_in_the_registry(folder, module):
    script = (
        f"import gradscope.{folder}.{module}; from gradscope.{folder} import registry; "
        f"print({module.replace('_', '-')!r} in registry())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stdout == "True\n", done.stderr
