# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What we write, read by the real vLLM of the lab's engine image; needs the part `lab`."""

from __future__ import annotations

import sys

from steps.report import Report
from steps.surroundings import COLLECTIONS, ROOT, environment


def run(report: Report) -> None:
    report.settle()
    report.command(
        "vLLM reads every configuration file",
        *(sys.executable, "-m", "pytest", "--quiet", "tests/engine"),
        env=environment(PYTHONPATH=str(COLLECTIONS)),
        cwd=ROOT,
    )
