"""Run fuzz targets: `python -m fuzz SECONDS [TARGET ...] [--first SEED]`, from the folder `tests`."""

from __future__ import annotations

import argparse
import sys
import time

from fuzz.driver import TARGETS, fuzz

parser = argparse.ArgumentParser(prog="fuzz", description="Throw damaged input at the package until time is up.")
parser.add_argument("seconds", type=float, help="for each target; 0 repeats a single attempt")
parser.add_argument("targets", nargs="*", default=TARGETS, help=f"of {', '.join(TARGETS)}; all of them")
parser.add_argument("--first", type=int, default=None, help="seed of the first attempt; by the clock")
arguments = parser.parse_args()
first = int(time.time()) * 10**6 if arguments.first is None else arguments.first
failed = False
for name in arguments.targets:
    finding, attempts = fuzz(f"fuzz.{name}", arguments.seconds, first)
    sys.stdout.write(f"{name}: {attempts} attempts from seed {first}: {finding or 'nothing found'}\n")
    sys.stdout.flush()
    failed |= finding is not None
sys.exit(failed)
