"""The gallery in the documentation, written from what runs of the samples left.

gradscope demo $(gradscope demo --list | cut -d " " -f 1)
python -m gradscope.samples.gallery gradscope-demo docs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradscope.report.report import write_atomically
from gradscope.samples import registry
from gradscope.samples._page import count_held, load_stories, title, word_claim

_PICTURES = Path("images") / "samples"
_HEAD = """# Gallery

Each sample builds a sick network, examines it, treats it and trains both: `gradscope demo NAME`
runs one, `gradscope demo --list` names them. Every number and picture on this page was measured
by such a run, on the CPU, from fixed seeds; `make gallery` writes the page anew.
"""


def write(runs: Path, docs: Path) -> Path:
    """Write `docs`/gallery.md and its pictures from what `gradscope demo` left in `runs`.

    A sample that was not run there is named at the end.
    """
    known = registry()
    stories = load_stories(runs, known)
    missing = [id for id in known if id not in {story["name"] for story in stories}]
    (docs / _PICTURES).mkdir(parents=True, exist_ok=True)
    for old in (docs / _PICTURES).glob("*.svg"):
        old.unlink()
    for story in stories:
        for path, figure in _pictures(story):
            write_atomically(docs / path, figure["svg"])
    page = docs / "gallery.md"
    rest = [f"Not run for this page: `gradscope demo {' '.join(missing)}`.\n"] if missing else []
    write_atomically(page, "\n".join([_HEAD, *(_chapter(story) for story in stories), *rest]))
    return page


def _pictures(story: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    figures = [figure for section in story["sections"] for figure in section["figures"]]
    for number, figure in enumerate(figures, 1):
        yield _PICTURES / f"{story['name']}-{number}.svg", figure


def _chapter(story: dict[str, Any]) -> str:
    formulas = [formula for section in story["sections"] for formula in section["formulas"]]
    claims = [word_claim(claim) for section in story["sections"] for claim in section["claims"]]
    count, total = count_held(story)
    lines = [
        f"## {title(story['name'])}",
        "",
        f"{_sentence(story['summary'])} `gradscope demo {story['name']}`: {count} of {total} "
        f"claims held, {story['seconds']:.0f} s.",
        "",
        *(f"- `{formula['text']}` ({formula['source']})" for formula in formulas),
        *([""] if formulas else []),
        *(f"![{figure['alt']}]({path.as_posix()})" for path, figure in _pictures(story)),
        "",
        "| Claim | Expected | Measured | |",
        "|---|---|---|---|",
        *(_row(claim) for claim in claims),
        "",
    ]
    return "\n".join(lines)


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _row(claim: dict[str, Any]) -> str:
    state = "held" if claim["holds"] else "**not held**"
    cells = (claim["statement"], claim["expected"], claim["shown"], state)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: python -m gradscope.samples.gallery RUNS DOCS")
    print(write(Path(sys.argv[1]), Path(sys.argv[2])))
