# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""ansible-test: its sanity tests, and the unit tests on the Pythons of controllers and hosts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from steps.cores import OLDEST, cores, interpreter
from steps.report import Report
from steps.surroundings import CACHE, ROOT, checkout_files, environment, home

WORK = CACHE / "ansible-test"
TREE = WORK / "ansible_collections" / "baremetal" / "vllm"
PYTHONS = WORK / "pythons"

# The oldest Python on hosts, and those of the controllers.
HOSTS_PYTHON = "3.9"
VERSIONS = (HOSTS_PYTHON, "3.11", "3.12", "3.13")

# No part of the collection, and written for one Python; lint and unit check it.
LAB = ("molecule", "tests/unit/lab")

# Stands in for get-pip.py, which ansible-test would fetch from a server of its own.
# A child runs ensurepip, because that sets PIP_CONFIG_FILE=/dev/null where it runs.
GET_PIP = """\
import os, subprocess, sys
environment = {name: value for name, value in os.environ.items() if name != "GET_PIP"}
sys.exit(subprocess.call([sys.executable, "-m", "ensurepip", "--default-pip"], env=environment,
                         stdout=subprocess.DEVNULL))
"""


def run(report: Report) -> None:
    copy_tree()
    stand_in_for_get_pip()
    pythons = link_pythons()
    if HOSTS_PYTHON not in pythons:
        report.note(f"Modules were not tried on Python {HOSTS_PYTHON}, which is not on PATH.")
    for core in cores(report):
        # A short path: shims on the user's PATH look like Pythons and are none.
        env = environment(PATH=f"{core.bin}:{PYTHONS}:/usr/local/bin:/usr/bin:/bin")
        report.command(
            f"ansible-test sanity, ansible-core {core.release}",
            *("ansible-test", "sanity", "--local", "--color", "no"),
            cwd=TREE,
            env=env,
        )
        hosts = [HOSTS_PYTHON] if HOSTS_PYTHON in pythons else []
        # The part `unit` has run the same tests with the oldest core on its controllers' Python.
        controllers = [] if core == OLDEST else [core.python]
        for python in [*hosts, *controllers]:
            report.command(
                f"ansible-test units, ansible-core {core.release}, Python {python}",
                *("ansible-test", "units", "--venv", "--python", python),
                *("--num-workers", "2", "--color", "no"),
                cwd=TREE,
                env=env,
            )


def copy_tree() -> None:
    """ansible-test wants the collection at its real path; a link would be resolved and refused."""
    shutil.rmtree(TREE, ignore_errors=True)
    for path in checkout_files():
        if any(path.is_relative_to(part) for part in LAB):
            continue
        target = TREE / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    # Its own repository: in the checkout's, all below .cache is ignored and nothing were tested.
    subprocess.run(["git", "init", "--quiet", TREE], check=True)


def stand_in_for_get_pip() -> None:
    directory = home() / ".ansible" / "test" / "cache"
    directory.mkdir(parents=True, exist_ok=True)
    for release in ("24_2", "25_2"):  # of ansible-core 2.19 and 2.21
        (directory / f"get_pip_{release}.py").write_text(GET_PIP)


def link_pythons() -> dict[str, Path]:
    """Give ansible-test the Pythons that work here, by name."""
    shutil.rmtree(PYTHONS, ignore_errors=True)
    PYTHONS.mkdir(parents=True)
    found = {version: path for version in VERSIONS if (path := interpreter(version))}
    for version, path in found.items():
        (PYTHONS / f"python{version}").symlink_to(path)
    return found
