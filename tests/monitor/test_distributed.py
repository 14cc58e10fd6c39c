"""Models on several devices or in several processes, each in processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "distributed"
LIMIT = 300


def start(script: str, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2])}
    return subprocess.Popen(
        [sys.executable, str(HERE / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finished(process: subprocess.Popen) -> str:
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 0, f"{out}\n{err[-3000:]}"
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "devices"),
    [("mlp", "2"), ("mlp", "3"), ("cnn", "2"), ("transformer", "2"), ("lstm", "2")],
)
def test_devices_give_the_statistics_of_one_on_the_whole_batch(model, devices):
    finished(start("mirrored.py", model, devices))


def free_ports(number: int) -> list[str]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(number)]
    ports = [str(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.mark.slow
def test_two_workers_give_the_analysis_of_one_and_the_chief_writes_it(tmp_path):
    folders = [tmp_path / name for name in ("0", "1", "alone")]
    for folder in folders:
        folder.mkdir()
    ports = ",".join(free_ports(2))
    workers = [start("worker.py", str(n), ports, str(folders[n])) for n in (0, 1)]
    one, two = (json.loads(finished(w).splitlines()[-1]) for w in workers)
    alone = json.loads(finished(start("worker.py", str(folders[2]))).splitlines()[-1])

    assert one["layers"] == two["layers"] == alone["layers"]
    assert (folders[0] / "report.json").exists()
    assert not (folders[1] / "report.json").exists()
    assert "PerReplica" in one["refused"]  # Keras 3's own fit, whether it is watched or not
