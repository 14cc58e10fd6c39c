"""What of the environment works: versions, devices, optional packages, private names.

TensorFlow is imported here only where it is asked for, and one that cannot be imported is told.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gradscope._version import __version__
from gradscope.backend.capabilities import CAPABILITIES, Capability
from gradscope.errors import UsageError
from gradscope.messages import one_line

_PACKAGES = ("keras", "tensorflow", "numpy")
# The packages of each extra, by the name that they are imported by, and what they are for.
_EXTRAS = {
    "tensorboard": (("tensorboard",), "Monitor(tensorboard=...)"),
    "samples": (("mlxtend",), "gradscope demo healthy"),
    "pandas": (("pandas",), "Report.to_frame"),
}
_REMEDY = "pip install 'gradscope-keras[{}]'"


def examine() -> dict[str, Any]:
    """What works, as plain data; loads Keras and TensorFlow.

    Returns:
        `versions` by package (None where it is missing), `platform`, `backend` (None where Keras
        cannot be imported), `problem` (why, or None), `devices`, `extras` and `capabilities`, each
        a list of `{"id", "available", ...}` with what is off or what to do about it.
    """
    found: dict[str, Any] = {
        "versions": {},
        "platform": platform.platform(),
        "backend": None,
        "problem": None,
        "devices": [],
        "extras": [_extra(name) for name in _EXTRAS],
        "capabilities": [],
    }
    try:
        found["backend"] = _backend()
        found["devices"] = _devices()
        found["capabilities"] = _capabilities()
    except Exception as error:  # a broken installation may fail in any way: that is what is asked
        found["problem"] = one_line(error)
    found["versions"] = {"python": platform.python_version(), "gradscope": __version__}
    found["versions"] |= {package: _version(package) for package in _PACKAGES}
    return found


def require_tensorflow_backend() -> None:
    """Check that Keras runs, or would run once imported, on TensorFlow.

    Raises:
        UsageError: it runs on another backend.
    """
    if "keras" in sys.modules:
        backend = sys.modules["keras"].backend.backend()
        source, remedy = "Keras runs", "start Python with KERAS_BACKEND=tensorflow"
    else:
        backend, setting = configured_backend()
        source, remedy = f"{setting} asks for Keras", "set KERAS_BACKEND=tensorflow"
    if backend != "tensorflow":
        raise UsageError(
            f"{source} on the backend {backend!r}. "
            f"gradscope works with the TensorFlow backend: {remedy}."
        )


def configured_backend() -> tuple[Any, str]:
    """The backend that Keras would take once imported, and where that is set."""
    if asked := os.environ.get("KERAS_BACKEND"):
        return asked, "KERAS_BACKEND"
    path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")
    return _backend_in(path), str(path)


def _version(package: str) -> str | None:
    """The version that is or would be imported; the package itself knows it of a nightly, too."""
    loaded = getattr(sys.modules.get(package), "__version__", None)
    if loaded is not None:
        return str(loaded)
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extra(name: str) -> dict[str, Any]:
    packages, serves = _EXTRAS[name]
    lacking = [package for package in packages if importlib.util.find_spec(package) is None]
    return {
        "id": name,
        "available": not lacking,
        "feature": serves,
        "missing": lacking,
        "remedy": _REMEDY.format(name) if lacking else None,
    }


def _backend() -> str:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    backend = str(keras.backend.backend())
    if backend != "tensorflow":
        raise RuntimeError(
            f"Keras runs on the backend {backend!r}. gradscope works with TensorFlow: "
            "set KERAS_BACKEND=tensorflow."
        )
    return backend


def _backend_in(path: Path) -> Any:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "tensorflow"
    return config.get("backend", "tensorflow") if isinstance(config, dict) else "tensorflow"


def _devices() -> list[dict[str, str]]:
    import tensorflow as tf

    return [
        {"kind": device.device_type, "name": device.name}
        for device in tf.config.list_physical_devices()
    ]


def load_capabilities() -> dict[str, Capability]:
    """Every capability by its id; loads Keras and TensorFlow."""
    # Each of these makes capabilities, or says how one is tried.
    from gradscope.backend import keras_private, patches, tensorflow_private  # noqa: F401

    return dict(sorted(CAPABILITIES.items()))


def _capabilities() -> list[dict[str, Any]]:
    told = []
    for capability in load_capabilities().values():
        reason = capability.check()
        told.append(
            {
                "id": capability.id,
                "available": reason is None,
                "feature": capability.feature.rstrip(","),
                "needs": list(capability.needs),
                "since": capability.since,
                "reason": reason,
                "without": capability.without,
            }
        )
    return told
