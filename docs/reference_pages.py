"""What the registries know, as pages: a hook of mkdocs, and the table in the README.

`python -m docs.reference_pages` (`make tables`) writes the table anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        yield f"symptoms/{symptom.id}.md", _page(page, links="treatments")
    for treatment in treatments.registry().values():
        page = reference.treatment_page(treatment)
        yield f"treatments/{treatment.id}.md", _page(page, links="symptoms")
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


def _page(page: dict[str, Any], links: str) -> str:
    parts = [f"# {page['id']}", f"*{page['summary'][:1].upper()}{page['summary'][1:]}.*"]
    for section in page["sections"]:
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
