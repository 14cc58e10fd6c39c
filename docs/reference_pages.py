"""What the registries know, as pages: a hook of mkdocs, and the table in the README.

`python -m docs.reference_pages` (`make tables`) writes the table anew.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs import example_runs
from gradscope import symptoms, treatments
from gradscope.diagnosis import reference

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- symptoms: made by 'make tables' -->\n", "<!-- /symptoms -->"
_KINDS = {"symptoms": "Symptoms", "treatments": "Treatments"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the made pages into the navigation, where `symptoms/` and `treatments/` stand."""
    for entry in config.nav or []:
        for title, target in list(entry.items()) if isinstance(entry, dict) else ():
            kind = str(target).rstrip("/")
            if kind in _KINDS:
                entry[title] = [f"{kind}/index.md", *(f"{kind}/{id}.md" for id in _registry(kind))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; their text exists nowhere else."""
    from mkdocs.structure.files import File

    for path, text in pages():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> Iterator[tuple[str, str]]:
    """(path below docs, Markdown) of every made page."""
    for kind, title in _KINDS.items():
        yield f"{kind}/index.md", _index(title, _registry(kind).values())
    for symptom in symptoms.registry().values():
        page = reference.symptom_page(symptom, {}, None)
        text = _page(page, links="treatments", example=_example(symptom.id))
        yield f"symptoms/{symptom.id}.md", text
    for treatment in treatments.registry().values():
        page = reference.treatment_page(treatment)
        text = _page(page, links="symptoms", example=_treatment_example(treatment.id))
        yield f"treatments/{treatment.id}.md", text
    yield "thresholds.md", _thresholds()


def with_table(text: str) -> str:
    """The README's text with the table of symptoms as the registry has it."""
    rows = "".join(f"| `{s.id}` | {_cell(s.summary)} |\n" for s in symptoms.registry().values())
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}| Symptom | What it is |\n|---|---|\n{rows}{END}{after}"


def _registry(kind: str) -> dict[str, Any]:
    return symptoms.registry() if kind == "symptoms" else treatments.registry()


def _index(title: str, entries: Iterable[Any]) -> str:
    rows = "".join(f"| [`{e.id}`]({e.id}.md) | {_cell(e.summary)} |\n" for e in entries)
    return f"# {title}\n\n| Id | What it is |\n|---|---|\n{rows}"


def _page(page: dict[str, Any], links: str, example: str) -> str:
    parts = [f"# {page['id']}", f"*{page['summary'][:1].upper()}{page['summary'][1:]}.*"]
    for number, section in enumerate(page["sections"]):
        parts += [example] if number == 1 and example else []
        parts.append(f"## {section['heading']}")
        parts += [section["text"]] if "text" in section else []
        if "entries" in section:
            known = _registry(links)
            parts.append(
                "\n".join(
                    f"- [`{e}`](../{links}/{e}.md)" if e in known else f"- {e}"
                    for e in section["entries"]
                )
            )
        if "thresholds" in section:
            parts.append(_threshold_table(section["thresholds"], links=False))
    return "\n\n".join(parts) + "\n"


def _example(id: str) -> str:
    """A sick model, what is said of it, and what cured it, as `make examples` found them."""
    known = example_runs.results()[id]
    parts = [
        "## Example",
        _code(example_runs.source(id)),
        f"`{known['call']}` finds, among others:"
        if known["others"]
        else f"`{known['call']}` says:",
        _code(textwrap.fill(f"{known['severity'].upper()}  {known['message']}", 76), "text"),
    ]
    cure, offers = known["cure"], known["prescriptions"]
    chosen = [p for p in offers if cure and p["treatment"] == cure["treatment"]] or offers[:1]
    for offer in chosen:
        link = f"[`{offer['treatment']}`](../treatments/{offer['treatment']}.md)"
        parts.append(f"{f'What cures it is {link}' if cure else f'It prescribes {link}'}:")
        parts += _quote(offer)
    if cure:
        parts.append(f"Of the treated copy it says: *{_cell(cure['after'])}*")
    return "\n\n".join(parts)


def _treatment_example(treatment: str) -> str:
    """The first of the sick models that it cures, or else that it is prescribed for."""
    known = example_runs.results()
    if treatment in known:
        return _example(treatment)
    prescribed = {
        symptom: offer
        for symptom, run in known.items()
        if run["symptom"] == symptom
        for offer in run["prescriptions"]
        if offer["treatment"] == treatment
    }
    cured = [s for s in prescribed if (known[s]["cure"] or {}).get("treatment") == treatment]
    for symptom in (cured or list(prescribed))[:1]:
        link = f"[the example of `{symptom}`](../symptoms/{symptom}.md#example)"
        verb = "cures" if cured else "is prescribed for"
        return "\n\n".join(["## Example", f"It {verb} {link}:", *_quote(prescribed[symptom])])
    return ""


def _quote(offer: dict[str, Any]) -> list[str]:
    return [
        f"> {_cell(offer['rationale'])}",
        *([_code(offer["snippet"])] if offer["snippet"] else []),
    ]


def _code(text: str, language: str = "python") -> str:
    return f"```{language}\n{text.strip()}\n```"


def _thresholds() -> str:
    rows = reference.threshold_rows(symptoms.registry().values(), {}, None)
    told = (
        "Every bound that a symptom is judged by, and its basis. Any of them can be set by "
        "`analyze(thresholds={id: value})`, or under `[tool.gradscope.thresholds]` in "
        "pyproject.toml."
    )
    return f"# Thresholds\n\n{told}\n\n{_threshold_table(rows, links=True)}\n"


def _threshold_table(rows: list[dict[str, Any]], *, links: bool) -> str:
    lines = ["| Threshold | Value | Basis | Why this value | Source |", "|---|---|---|---|---|"]
    for row in rows:
        symptom, _, name = row["id"].partition(".")
        id = f"[`{symptom}`](symptoms/{symptom}.md)`.{name}`" if links else f"`{row['id']}`"
        cells = (id, f"{row['value']:g} {row['unit']}", row["basis"], row["note"], row["source"])
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
