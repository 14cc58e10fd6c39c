"""Options that several commands have, and their checks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import click

from gradscope.messages import unknown

target_option = click.option("--target", metavar="COLUMN", help="The label column of a .csv file.")
batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Samples per batch.",
)
max_memory_option = click.option(
    "--max-memory",
    metavar="GB",
    type=click.FloatRange(min=0, min_open=True),
    show_default="80 % of free memory",
    help="Stop if more memory is used (not counting TensorFlow's own).",
)
allow_option = click.option(
    "--allow",
    metavar="PACKAGE",
    multiple=True,
    help="Allow classes of this installed package in the model file, e.g. keras_hub.",
)
timeout_option = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True, max=1e9),
    default=3600,
    show_default=True,
    help="Stop if the work takes longer.",
)


def require_distinct(places: Mapping[str, str | None]) -> None:
    """Refuse options that name the same file.

    Args:
        places: the path each option holds, None where it is not given.

    Raises:
        click.UsageError: naming the options and the file.
    """
    taken: dict[str, str] = {}
    for option, path in places.items():
        if path is None:
            continue
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise click.UsageError(
                f"{other} and {option} both name {path!r}: choose different files."
            )


def writable(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Find out before the work starts whether a report can be written to `value`."""
    if value is None:
        return None
    path = Path(value)
    if path.is_dir():
        raise click.BadParameter(f"{value!r} is a folder. Expected a file name.")
    if path.exists() and not path.is_file():
        raise click.BadParameter(f"{value!r} is not a regular file. Expected a file name.")
    if not path.parent.is_dir():
        raise click.BadParameter(f"There is no folder {str(path.parent)!r}. Create it first.")
    writable = os.access(path.parent, os.W_OK | os.X_OK)
    if not writable or (path.exists() and not os.access(path, os.W_OK)):
        raise click.BadParameter(f"{value!r} cannot be written. Choose another path.")
    return value


def symptom_ids(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[str] | None:
    """Symptom ids from comma-separated values, None where the option is not given."""
    from gradscope.symptoms import registry

    if not values:
        return None
    ids = [part.strip() for value in values for part in value.split(",") if part.strip()]
    for id in ids:
        if id not in registry():
            message = unknown("symptom", id, registry(), "See 'gradscope symptoms'.")
            raise click.BadParameter(message)
    return ids


def input_shape(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[int] | dict[str, list[int]] | None:
    """A shape, or shapes by the names of inputs; None where the option is not given."""
    shapes = {}
    for value in values:
        name, _, sizes = value.rpartition("=")
        if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", sizes, re.ASCII):
            raise click.BadParameter(f"{value!r} is no shape. Expected 1000,4 or NAME=1000,4.")
        if name in shapes or (name == "" and len(values) > 1):
            raise click.BadParameter("name each shape where there are several: NAME=1000,4.")
        shapes[name] = [int(size) for size in sizes.split(",")]
    return shapes.get("", shapes or None)
