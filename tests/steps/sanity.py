# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""ansible-test: its sanity tests, and the unit tests on the Pythons of controllers and hosts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from steps.cores import OLDEST, Core, cores, interpreter
from steps.report import Command, Report
from steps.surroundings import CACHE, ROOT, checkout_files, environment, home

WORK = CACHE / "ansible-test"
PYTHONS = WORK / "pythons"

# The oldest Python on hosts, and those of the controllers.
HOSTS_PYTHON = "3.9"
VERSIONS = (HOSTS_PYTHON, "3.11", "3.12", "3.13")

# No part of the collection, and written for one Python; lint and unit check it.
LAB = ("molecule", "tests/unit/lab")

SANITY = ("sanity", "--local", "--color", "no")
UNITS = ("units", "--venv", "--num-workers", "2", "--color", "no")

# Stands in for get-pip.py, which ansible-test would fetch from a server of its own.
# A child runs ensurepip, because that sets PIP_CONFIG_FILE=/dev/null where it runs.
GET_PIP = """\
import os, subprocess, sys
environment = {name: value for name, value in os.environ.items() if name != "GET_PIP"}
sys.exit(subprocess.call([sys.executable, "-m", "ensurepip", "--default-pip"], env=environment,
                         stdout=subprocess.DEVNULL))
"""


def run(report: Report) -> None:
    pythons = link_pythons()
    if HOSTS_PYTHON not in pythons:
        report.note(f"Modules were not tried on Python {HOSTS_PYTHON}, which is not on PATH.")
    # Each core has a tree and a home of its own: they keep results and environments there.
    report.side_by_side([commands(core, pythons) for core in cores(report)])


def commands(core: Core, pythons: Collection[str]) -> list[Command]:
    """What ansible-test is asked with one core, in a fresh copy of the collection."""
    directory = WORK / core.release
    tree = directory / "ansible_collections" / "baremetal" / "vllm"
    copy_tree(tree)
    own_home = home(f"home-{core.release}")
    stand_in_for_get_pip(own_home)
    # A short path: shims on the user's PATH look like Pythons and are none.
    path = f"{core.bin}:{PYTHONS}:/usr/local/bin:/usr/bin:/bin"
    env = environment(PATH=path, HOME=str(own_home))

    def command(step: str, *arguments: str) -> Command:
        return Command(f"ansible-test {step}", ("ansible-test", *arguments), tree, env)

    sanity = command(f"sanity, ansible-core {core.release}", *SANITY)
    # The part `unit` runs the tests with the oldest core on its controllers' Python; its sanity
    # tests import every module on the hosts' Pythons with both.
    python = HOSTS_PYTHON if core == OLDEST else core.python
    step = f"units, ansible-core {core.release}, Python {python}"
    units = [command(step, *UNITS, "--python", python)] if python in pythons else []
    return [sanity, *units]


def copy_tree(tree: Path) -> None:
    """ansible-test wants the collection at its real path; a link would be resolved and refused."""
    shutil.rmtree(tree, ignore_errors=True)
    for path in checkout_files():
        if any(path.is_relative_to(part) for part in LAB):
            continue
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    # Its own repository: in the checkout's, all below .cache is ignored and nothing were tested.
    subprocess.run(["git", "init", "--quiet", tree], check=True)


def stand_in_for_get_pip(own_home: Path) -> None:
    directory = own_home / ".ansible" / "test" / "cache"
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
