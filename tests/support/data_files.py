"""Data for the models that the tests of inputs share."""

from __future__ import annotations

import numpy as np

X = np.linspace(0, 1, 24, dtype="float32").reshape(6, 4)
Y = np.array([0, 1, 2, 0, 1, 2])
