# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""All unit tests, on the oldest ansible-core; the part `sanity` runs them as ansible-test does."""

from __future__ import annotations

from steps.cores import OLDEST
from steps.report import Report
from steps.surroundings import COLLECTIONS, environment


def run(report: Report) -> None:
    core = OLDEST
    report.command(
        f"pytest, ansible-core {core.release}, Python {core.python}",
        *(core.bin / "python", "-m", "pytest", "--quiet", "--numprocesses=2", "tests/unit"),
        env=environment(core.bin, PYTHONPATH=str(COLLECTIONS)),
    )
