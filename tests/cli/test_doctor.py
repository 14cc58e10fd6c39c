"""`gradscope doctor`: what of the environment works."""

from __future__ import annotations

import json

from gradscope.backend import environment
from gradscope.backend.environment import load_capabilities


def test_it_shows_versions_devices_and_capabilities(gradscope):
    done = gradscope("doctor")

    assert done.code == 0
    assert "Backend:  tensorflow" in done.stdout
    assert "CPU:0" in done.stdout
    assert all(f"  ok   {id}: " in done.stdout for id in load_capabilities())


def test_what_is_off_is_shown_with_what_it_costs(gradscope, monkeypatch):
    lacking = load_capabilities()["gradient-taps"]
    monkeypatch.setattr(lacking, "missing", "no such name")
    done = gradscope("doctor")

    assert done.code == 0
    assert f"  off  gradient-taps: {lacking.feature}" in done.stdout
    assert f"no such name. So {lacking.without}." in done.stdout


def test_json(gradscope, monkeypatch):
    monkeypatch.setattr(environment, "_EXTRAS", {"wings": (("no_such_package",), "flying")})
    done = gradscope("doctor", "--json")
    found = json.loads(done.stdout)

    assert done.code == 0
    assert set(found["versions"]) == {"python", "gradscope", "keras", "tensorflow", "numpy"}
    assert found["problem"] is None
    assert {entry["id"] for entry in found["capabilities"]} == set(load_capabilities())
    assert found["extras"][0]["missing"] == ["no_such_package"]


def test_keras_that_cannot_be_used_is_told(gradscope, monkeypatch):
    def fail():
        raise ImportError("no TensorFlow here")

    monkeypatch.setattr(environment, "_backend", fail)
    done = gradscope("doctor")

    assert done.code == 0
    assert "Nothing can be examined: ImportError: no TensorFlow here" in done.stdout
