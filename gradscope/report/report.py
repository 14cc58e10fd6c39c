"""Report: everything one examination found, and its JSON form (schema "gradscope.report/1")."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.arguments import require_path
from gradscope.errors import UsageError
from gradscope.messages import show
from gradscope.records import (
    SCHEMA,
    Check,
    DataCard,
    Declined,
    Finding,
    FlatCurvature,
    History,
    LayerProfile,
    LossCard,
    ModelCard,
    NonFiniteOrigin,
    Prescription,
    Profile,
    Rehearsal,
    Trial,
)
from gradscope.records.codec import to_plain
from gradscope.records.pages import Page, draws
from gradscope.report.context import context

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured (`layers`), what it means (`findings`) and what was examined (`checks`).

    `prescriptions` say what to change, the first choice first; `declined` which treatments do not
    apply and why. `outcome`, `kept` and `rejected` are what `treat` came to. `thresholds` holds the
    bounds that were set by the user, by id. `rehearsal` is there where a copy was trained.
    `from_plain(Report, report.to_plain())` equals the report. The keys of the JSON form are the
    names of the fields.
    """

    model: ModelCard
    data: DataCard
    loss: LossCard
    layers: tuple[LayerProfile, ...]
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    prescriptions: tuple[Prescription, ...] = ()
    declined: tuple[Declined, ...] = ()
    trials: tuple[Trial, ...] = ()
    outcome: str | None = None
    kept: tuple[Prescription, ...] = ()
    rejected: tuple[Declined, ...] = ()
    history: History | None = None
    rehearsal: Rehearsal | None = None
    non_finite: NonFiniteOrigin | None = None
    flat_curvature: FlatCurvature | None = None
    curvature_unmeasured: str | None = None
    seed: int = 0
    steps: int = 0
    versions: dict[str, str] | None = None
    thresholds: dict[str, float] | None = None
    command: str | None = None
    schema: str = SCHEMA

    @classmethod
    def of(cls, profile: Profile, **made: Any) -> Report:
        """Put findings, checks and prescriptions beside the profile that they were made from."""
        return cls(
            model=profile.model,
            data=profile.data,
            loss=profile.loss,
            layers=profile.layers,
            history=profile.history,
            rehearsal=profile.rehearsal,
            non_finite=profile.non_finite,
            flat_curvature=profile.flat_curvature,
            curvature_unmeasured=profile.curvature_unmeasured,
            seed=profile.seed,
            versions=profile.versions,
            **made,
        )

    def profile(self) -> Profile:
        """Return what was measured, without findings and prescriptions."""
        return Profile(
            model=self.model,
            data=self.data,
            loss=self.loss,
            layers=self.layers,
            seed=self.seed,
            steps=self.steps,
            versions=self.versions or {},
            history=self.history,
            rehearsal=self.rehearsal,
            non_finite=self.non_finite,
            flat_curvature=self.flat_curvature,
            curvature_unmeasured=self.curvature_unmeasured,
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the report as JSON data: dicts, lists, strings, finite numbers and None."""
        plain: dict[str, Any] = to_plain(self)
        if self.rehearsal is None:
            del plain["rehearsal"]
        return {"schema": plain.pop("schema"), **plain, **context(self.profile(), self.thresholds)}

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as JSON text, and write it to a file where `path` is given.

        Args:
            path: the file; it is replaced as a whole. Of several workers (`TF_CONFIG`) only the
                chief writes.
        """
        text = json.dumps(self.to_plain(), allow_nan=False, indent=1)
        if path is not None and is_chief():
            write_atomically(path, text)
        return text

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as one self-contained HTML page, and write it where `path` is given.

        Args:
            path: the file; it is replaced as a whole. Of several workers (`TF_CONFIG`) only the
                chief writes.
        """
        from gradscope.render.html import render_html

        page = render_html(self.to_plain())
        if path is not None and is_chief():
            write_atomically(path, page)
        return page

    def summary(self) -> str:
        """Return the report as plain text, culprits first."""
        from gradscope.render.text import render_text

        return render_text(self.to_plain())

    def show(self) -> Path:
        """Open the page in a browser.

        Returns:
            Where it is, in the folder for temporary files.
        """
        from gradscope.report.notebook import draw_report

        return draw_report(self.to_plain()).show()

    def plot(self, kind: str = "gradient") -> Figure:
        """Draw a Matplotlib figure, for a paper or a notebook.

        Example:
            >>> report.plot("histograms").savefig("gradients.pdf")

        Args:
            kind: "gradient" (rms of dL/d output by layer), "signal" (rms of the output by layer),
                "saturation" (saturated and dead fractions by layer), "histograms" (of dL/d output
                by layer), or "loss" (of a training that was rehearsed or watched). The culprits
                of the first finding are red.

        Raises:
            UsageError: an unknown kind, or the report holds nothing to draw.
        """
        from gradscope.report.figures import draw_figure

        return draw_figure(self, kind)

    def to_frame(self) -> Any:
        """Return the layers as a pandas DataFrame, a row a layer call.

        Its columns are the keys of `layers` in the JSON form, those of nested objects joined by a
        dot ("activation_gradient.rms").

        Raises:
            UsageError: pandas is not installed.
        """
        from gradscope.report.optional import import_optional

        pandas = import_optional("pandas", "pandas", "Report.to_frame")
        return pandas.json_normalize(self.to_plain()["layers"])

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        found = list(dict.fromkeys(show(f.symptom) for f in self.findings))
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        told = f"found {', '.join(found[:3])}{more}" if found else "nothing found"
        return f"<Report on {show(self.model.name)}: {told}>"

    def _repr_html_(self) -> str | None:
        """The page inside a frame of its own, so that its style stays out of the notebook."""
        from gradscope.report.notebook import draw_report

        return draw_report(self.to_plain())._repr_html_()


@draws(Trial)
def _draw_trial(trial: Trial) -> Page:
    from gradscope.report.notebook import draw_trial

    return draw_trial(to_plain(trial))


def outcome_text(report: Report) -> str:
    """What treating came to, as plain text."""
    from gradscope.render.outcome import render_outcome

    return render_outcome(report.to_plain())


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the new one, never half.

    Raises:
        UsageError: no path, or it cannot be written (disk full, folder gone or read-only).
    """
    require_path("path", path)
    target = Path(path)
    # Named before it is made, so that an interrupt at any moment finds it and takes it away.
    temporary = target.with_name(f".gradscope-{secrets.token_hex(8)}.tmp")
    try:
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"Cannot write {os.fspath(path)!r}: {reason}. Free some space or choose another path."
        ) from error


def is_chief() -> bool:
    """Whether this process writes for all: the only one, the chief, or else the first worker."""
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        task = config.get("task", {})
        if len(config.get("cluster", {}).get("worker", ())) < 2:
            return True
        if "chief" in config["cluster"]:
            return bool(task["type"] == "chief")
        return bool(task["type"] == "worker" and int(task["index"]) == 0)
    except (ValueError, AttributeError, KeyError, TypeError):
        return True
