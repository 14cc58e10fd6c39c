"""The backend that Keras runs on, or would run on once imported."""

from __future__ import annotations

import sys

import keras
import pytest

from gradscope.backend.environment import require_tensorflow_backend
from gradscope.errors import UsageError


def test_another_backend_by_environment_is_refused(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(UsageError, match=r"'jax'.*KERAS_BACKEND=tensorflow"):
        require_tensorflow_backend()


def test_another_backend_by_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    with pytest.raises(UsageError, match=r"keras\.json.*'torch'"):
        require_tensorflow_backend()


def test_the_environment_overrules_the_file(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    require_tensorflow_backend()


def test_a_running_backend_is_asked(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(UsageError, match="Keras runs on the backend 'jax'"):
        require_tensorflow_backend()
