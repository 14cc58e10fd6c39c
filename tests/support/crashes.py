"""Crashes in C code, as TensorFlow's kernels make them on some processors."""

from __future__ import annotations

import faulthandler
import os


def crash_with_onednn() -> str:
    """Crash unless oneDNN is off."""
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0":
        faulthandler._sigsegv()
    return "done"
