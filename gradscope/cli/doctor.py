"""The command that says what of the environment works."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click

from gradscope.cli.terminal import import_tensorflow, print_text, status


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(as_json: bool) -> None:
    """Show what works in this environment and what does not.

    Shows versions, backend, devices and optional packages, and tries every private name of Keras
    and TensorFlow that gradscope uses. Always exits with code 0.
    """
    from gradscope.backend.environment import examine

    with status("Checking the internals of Keras and TensorFlow"):
        with contextlib.suppress(Exception):  # `examine` tells why
            import_tensorflow(quietly=True)
        found = examine()
    print_text(json.dumps(found, indent=2) if as_json else render(found))


def render(found: dict[str, Any]) -> str:
    """The findings of `gradscope.backend.environment.examine` as lines of text."""
    versions = (f"{name} {number or 'missing'}" for name, number in found["versions"].items())
    devices = (device["name"] for device in found["devices"])
    lines = [
        f"Versions: {', '.join(versions)}",
        f"Platform: {found['platform']}",
        f"Backend:  {found['backend'] or 'none'}",
        f"Devices:  {', '.join(devices) or 'none'}",
    ]
    if found["problem"]:
        lines += ["", f"Nothing can be examined: {found['problem']}"]
    lines += ["", "Optional packages"]
    for extra in found["extras"]:
        cost = "" if extra["available"] else f": {', '.join(extra['missing'])}. {extra['remedy']}"
        lines.append(f"{_state(extra)}{extra['id']} ({extra['feature']}){cost}")
    if found["capabilities"]:
        lines += ["", "Internals of Keras and TensorFlow that gradscope uses"]
    for capability in found["capabilities"]:
        lines.append(f"{_state(capability)}{capability['id']}: {capability['feature']}")
        if not capability["available"]:
            lines.append(f"{'':7}{capability['reason']}. So {capability['without']}.")
    return "\n".join(lines)


def _state(entry: dict[str, Any]) -> str:
    return "  ok   " if entry["available"] else "  off  "


COMMANDS = (doctor_command,)
