# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Where the checks run: the checkout, its files, its caches and the programs' environment."""

from __future__ import annotations

import ast
import configparser
import functools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
COLLECTIONS = ROOT / ".collections"
BIN = ROOT / ".venv" / "bin"


def environment(
    bin_directory: Path = BIN, collections: Path = COLLECTIONS, **more: str
) -> dict[str, str]:
    """What a check's program sees: the tools of one virtual environment and a home of its own.

    In a user's home an installed copy of this collection would shadow the checkout.
    """
    result = dict(os.environ)
    # Collections of the `ansible` package, for an environment that has ansible-core alone.
    packaged = next(BIN.parent.glob("lib/python3*/site-packages"), BIN.parent)
    result.update(
        PATH=f"{bin_directory}:{os.environ.get('PATH', os.defpath)}",
        HOME=str(home()),
        ANSIBLE_COLLECTIONS_PATH=f"{collections}:{packaged}",
        PYTHONDONTWRITEBYTECODE="1",
    )
    if os.environ.get("CI") == "true":
        for name in ("FORCE_COLOR", "ANSIBLE_FORCE_COLOR", "PY_COLORS"):
            result.pop(name, None)
        result.update(NO_COLOR="1", ANSIBLE_NOCOLOR="1")
    return result | more


@functools.cache
def home(name: str = "home") -> Path:
    """A home directory that knows the package index and nothing else of the user's."""
    directory = CACHE / name
    pip = directory / ".config" / "pip" / "pip.conf"
    pip.parent.mkdir(parents=True, exist_ok=True)
    pip.touch(mode=0o600)
    with pip.open("w") as file:
        pip_configuration().write(file)
    return directory


def pip_configuration() -> configparser.RawConfigParser:
    """All that configures pip here, as one file: ansible-test passes no variable on to pip."""
    merged = configparser.RawConfigParser()
    merged.read_dict({"global": {"quiet": "2"}})  # errors alone
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    # Variables of the environment, printed as `:env:.name`, win over files.
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        name, value = line.split("=", 1)
        section, option = name.rsplit(".", 1)
        if option == "config-file":
            continue
        section = "global" if section == ":env:" else section
        merged.read_dict({section: {option: ast.literal_eval(value)}})
    return merged


def checkout_files() -> list[Path]:
    """Files that git has or would take, relative to the checkout."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-zco", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = {name for name in listed.split("\0") if name}
    return sorted(Path(name) for name in names if (ROOT / name).is_file())
