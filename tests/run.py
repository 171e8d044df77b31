# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The checks behind `make test` and `make test-all`: python tests/run.py [--all] [PART ...]."""

from __future__ import annotations

import argparse
import sys

from steps import build, demo, edge, engine, lab, lint, molecule, sanity, unit
from steps.report import Report

PARTS = {
    "lab": lab.run,
    "lint": lint.run,
    "sanity": sanity.run,
    "build": build.run,
    "unit": unit.run,
    "edge": edge.run,
    "engine": engine.run,
    "demo": demo.run,
    "molecule": molecule.run,
}
# Not in `make test`, which a person waits for.
SLOW = {
    "edge-scan": edge.run_scan,
    "slow": molecule.run_slow,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    every = {**PARTS, **SLOW}
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(every)}")
    parser.add_argument("--all", action="store_true", help=f"with {', '.join(SLOW)}, if no PART")
    arguments = parser.parse_args()
    parts = arguments.parts or list(every if arguments.all else PARTS)
    if unknown := [part for part in parts if part not in every]:
        parser.error(f"there is no part {unknown[0]}; the parts are {', '.join(every)}")
    report = Report()
    for part in parts:
        report.begin(part)
        every[part](report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
