"""How soon `gradscope --help` is there: one JSON line; the bar is 0.3 s by the clock.

    python benchmarks/start.py [--runs N]

The shortest of the runs is what the program takes; longer ones measure what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

BAR = 0.3  # seconds
COMMAND = [sys.executable, "-c", "from gradscope.cli import main; main()", "--help"]


def seconds() -> float:
    begin = time.perf_counter()
    subprocess.run(COMMAND, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    runs = sorted(seconds() for _ in range(parser.parse_args().runs))
    figures = {"shortest": runs[0], "median": statistics.median(runs), "longest": runs[-1]}
    print(json.dumps({name: round(value, 3) for name, value in figures.items()} | {"bar": BAR}))


if __name__ == "__main__":
    main()
