"""What every test starts from: fixed seeds, and property tests that repeat their cases."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "gradscope",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no failure
)
settings.load_profile("gradscope")


@pytest.fixture
def seeded():
    """Python, NumPy and Keras random generators at a known state."""
    import keras

    keras.utils.set_random_seed(0)
