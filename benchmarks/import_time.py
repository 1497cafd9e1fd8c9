"""How long a fresh process takes to import the definitions: what every code server, run worker and command waits for.

    python benchmarks/import_time.py [--repeats 5]

Prints the median and the spread over the processes, by the clock and in CPU seconds (target ≤ 4 s by the clock).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

MODULE = "sceneloom.orchestration.definitions"
TARGET_SECONDS = 4
_MEASURE = f"""
import time
wall, cpu = time.perf_counter(), time.process_time()
import {MODULE}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def main() -> None:
    """Measure and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--repeats", type=int, default=5)
    repeats = arguments.parse_args().repeats
    measured = [_import_once() for _ in range(repeats)]
    print(f"import of {MODULE}, {repeats} fresh processes, seconds (target ≤ {TARGET_SECONDS})")
    print(f"  {'':<6}{'median':>8}{'least':>8}{'most':>8}")
    for name, values in zip(("wall", "CPU"), zip(*measured, strict=True), strict=True):
        print(f"  {name:<6}{statistics.median(values):>8.2f}{min(values):>8.2f}{max(values):>8.2f}")


def _import_once() -> tuple[float, float]:
    printed = subprocess.run([sys.executable, "-c", _MEASURE], check=True, capture_output=True, text=True).stdout
    wall, cpu = printed.split()
    return float(wall), float(cpu)


if __name__ == "__main__":
    main()
