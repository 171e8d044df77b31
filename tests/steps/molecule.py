# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The scenarios, on hosts of the lab."""

from __future__ import annotations

from pathlib import Path

from steps.report import Report
from steps.surroundings import BIN, COLLECTIONS, ROOT, environment

FIRST = ["default", "alternative", "uninstall"]
SLOW = ["airgap", "edge", "host", "spread", "store"]
"""Scenarios of `make test-all` alone."""


def run(report: Report) -> None:
    scenarios = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
    _test(report, [*FIRST, *sorted(scenarios - {*FIRST, *SLOW})])


def run_slow(report: Report) -> None:
    _test(report, SLOW)


def _test(report: Report, scenarios: list[str]) -> None:
    report.settle()
    # Docker's and pip's settings of the user are wanted here.
    env = environment(HOME=str(Path.home()), ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS))
    for scenario in scenarios:
        report.command(scenario, BIN / "molecule", "test", "--scenario-name", scenario, env=env)
