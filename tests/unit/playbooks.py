# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Plays of this collection, run by the real ansible-playbook beside the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _inventory

COLLECTION = Path(_inventory.__file__).parents[2]
COLLECTIONS = COLLECTION.parents[2]


def program(name: str) -> str:
    """Path of a program of Ansible: ansible-test puts its own on PATH, others lie beside Python."""
    return shutil.which(name) or str(Path(sys.executable).with_name(name))


def ansible_playbook(
    directory: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook in a directory of its own, whatever its exit status; what it printed.

    :param arguments: its command line; names of files are relative to `directory`.
    :param environment: variables beside, or instead of, those that keep it in `directory`.
    """
    return subprocess.run(
        [program("ansible-playbook"), *arguments],
        cwd=directory,
        env=os.environ
        | {
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(directory),
            "ANSIBLE_HOME": str(directory),
        }
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
