"""Models and data for the command line, and a way to run it in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from gradscope.cli import main
from gradscope.cli.sandbox import work


@dataclass(frozen=True)
class Outcome:
    """How one run of the command line ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """The only line on stderr; stdout is empty and there is no traceback."""
        assert self.stdout == ""
        assert "Traceback" not in self.stderr
        assert self.stderr.count("\n") == 1
        assert self.stderr.startswith("gradscope: error: ")
        return self.stderr


@pytest.fixture
def gradscope(tmp_path, monkeypatch):
    """Run `gradscope ARGUMENTS...` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    # Commands do their work in a process of its own; loading TensorFlow once more there is what
    # tests/cli/test_sandbox.py pays for, not every test.
    monkeypatch.setattr("gradscope.cli.sandbox.call_limited", work_here)

    def run(*arguments: str | Path) -> Outcome:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


def work_here(function: str, arguments: dict[str, Any], *_: Any, **options: Any) -> Any:
    """`gradscope.cli.sandbox.call_limited` in this process: plain data in and out, as there."""
    answer = work(function, json.loads(json.dumps(arguments)))
    return json.loads(json.dumps(answer))


def mlp(activation: str, depth: int, initializer: str) -> keras.Model:
    layers = [
        keras.layers.Dense(16, activation, kernel_initializer=initializer, name=f"hidden_{i}")
        for i in range(depth)
    ]
    model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A folder with sick.keras, healthy.keras and data.npz."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    mlp("sigmoid", 20, "glorot_uniform").save(folder / "sick.keras")
    mlp("relu", 3, "he_normal").save(folder / "healthy.keras")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 8)).astype("float32")
    np.savez(folder / "data.npz", x=x, y=rng.integers(0, 3, 64))
    return folder
