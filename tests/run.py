# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The checks behind `make test`: python tests/run.py [PART ...], all parts without one."""

from __future__ import annotations

import argparse
import sys

from steps import build, demo, engine, lab, lint, molecule, sanity, unit
from steps.report import Report

PARTS = {
    "lab": lab.run,
    "lint": lint.run,
    "unit": unit.run,
    "engine": engine.run,
    "sanity": sanity.run,
    "build": build.run,
    "demo": demo.run,
    "molecule": molecule.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; the parts are {', '.join(PARTS)}")
    report = Report()
    for part in parts:
        report.begin(part)
        PARTS[part](report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
