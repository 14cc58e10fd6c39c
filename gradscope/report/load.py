"""Files of reports and of watched runs -> Report."""

from __future__ import annotations

import os
from pathlib import Path

from gradscope.arguments import require_path
from gradscope.errors import UnreadableError
from gradscope.messages import show
from gradscope.records import SCHEMA
from gradscope.records.codec import from_plain, loads
from gradscope.report.report import Report
from gradscope.report.run_file import START, read_run


def load_report(path: str | os.PathLike[str]) -> Report:
    """Read a report that `Report.to_json` or `--json` wrote, or a run that `Monitor` wrote.

    Args:
        path: the file.

    Returns:
        The `Report`, as it was when it was written.

    Raises:
        UsageError: no path.
        UnreadableError: the file is missing, not JSON, or not a report of this schema.
    """
    require_path("path", path)
    name = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
        if text.startswith(START):
            return read_run(path)
        data = loads(text)
    except OSError as error:
        raise UnreadableError(f"Cannot read {name!r}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableError(
            f"{name!r} is not JSON. Expected a report written by --json or Report.to_json()."
        ) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise UnreadableError(
            f"{name!r} has schema {show(schema)}. Expected {SCHEMA!r}. Write it again with --json."
        )
    try:
        report = from_plain(Report, data)
        report.profile()  # refuses equal layers
        return report
    except ValueError as error:
        raise UnreadableError(f"{name!r} is a damaged report. {error}") from error
