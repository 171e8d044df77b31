# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Everything that reads files and runs nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from steps.report import Report
from steps.surroundings import COLLECTIONS, ROOT, checkout_files, environment

MYPY = ("mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache")


def run(report: Report) -> None:
    report.command("yamllint", "yamllint", "--strict", ".")
    report.command("ansible-lint", "ansible-lint", "-q")
    report.command("ruff check", "ruff", "check", "--quiet")
    report.command("ruff format", "ruff", "format", "--check", "--quiet")
    # Under the full name of the collection, as the plugins import each other.
    plugins = "ansible_collections.baremetal.vllm.plugins"
    report.command("mypy plugins", *MYPY, "--package", plugins, cwd=COLLECTIONS)
    paths = (ROOT / "tests", ROOT / "tests/edge", ROOT / "molecule/shared")
    tests = environment(MYPYPATH=":".join(map(str, paths)))
    # What pytest would find by itself is named; what it imports comes along.
    edge = sorted((ROOT / "tests/edge").glob("*.py"))
    report.command("mypy tests", *MYPY, "tests/run.py", *edge, env=tests)
    report.command("mypy benchmark", *MYPY, "--package", "edge_benchmark", env=tests)
    report.command("changelog fragments", "antsibull-changelog", "lint")
    if (ROOT / "changelogs" / "changelog.yaml").exists():
        changelog = ("lint-changelog-yaml", "changelogs/changelog.yaml")
        report.command("changelog", "antsibull-changelog", *changelog)
    report.check("shell syntax", shell_problems)


def shell_problems() -> Iterator[str]:
    for path in checkout_files():
        with (ROOT / path).open("rb") as file:
            words = file.readline(80).decode(errors="replace").split()
        if not words or not words[0].startswith("#!"):
            continue
        shell = words[-1].rpartition("/")[2]
        if shell not in ("sh", "bash"):
            continue
        command = [shell, "-n", str(path)]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        yield from done.stderr.splitlines()
