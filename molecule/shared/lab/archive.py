# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The Debian archive as apt of this machine knows it: the lab uses the same mirror."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import engine
from lab.error import LabError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
_POCKETS = ("", "-updates", "-security")
_OPTION = re.compile(r"^Acquire::(https?::|Check-Valid-Until|Check-Date|Retries)")


@dataclass(frozen=True)
class Source:
    """One suite of an archive: `uri` with a trailing slash, `pocket` such as `-security`."""

    uri: str
    pocket: str

    def line(self, suite: str) -> str:
        """The line of sources.list for this archive's same pocket of another Debian release."""
        return f"deb {self.uri} {suite}{self.pocket} main"


def parse_targets(output: str, codename: str) -> list[Source]:
    """The Debian sources in what `apt-get indextargets` printed, in the order of apt's files."""
    sources: dict[Source, None] = {}
    for line in output.splitlines():
        uri, release, component, origin = line.split("|")
        pocket = release.removeprefix(codename)
        ours = release.startswith(codename) and pocket in _POCKETS and component == "main"
        # The origin is known only after an `apt-get update`; until then the name must do.
        if ours and origin in ("Debian", "", "$(ORIGIN)"):
            sources[Source(uri.rstrip("/") + "/", pocket)] = None
    return list(sources)


def parse_options(dump: str) -> list[str]:
    """The lines of `apt-config dump` that another apt needs to reach the same mirror."""
    lines = [line for line in dump.splitlines() if _OPTION.match(line)]
    return [line for line in lines if not line.endswith('"";')]


def _codename() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    return found.group(1) if found else ""


def _apt(*command: str) -> str:
    if not engine.which(command[0]):
        raise LabError("This machine has no apt: the lab builds its hosts on Debian 12 or later.")
    done = subprocess.run(
        command, env=engine.system_environment(), capture_output=True, text=True, check=False
    )
    return done.stdout


def sources() -> list[Source]:
    """The machine's own Debian sources, or a LabError that says there are none."""
    found = parse_targets(_apt("apt-get", "indextargets", "--format", _FORMAT), _codename())
    if not any(source.pocket == "" for source in found):
        raise LabError(
            "apt has no Debian archive configured (component main of this release): "
            "the lab builds its hosts from one, so add it to /etc/apt/sources.list."
        )
    return found


def options() -> list[str]:
    """Proxies, retries and date checks of this machine's apt, as lines of apt.conf."""
    return parse_options(_apt("apt-config", "dump"))


def check() -> None:
    """Fetch a release file with apt's own proxy and credentials; LabError when that fails."""
    source = sources()[0]
    url = f"{source.uri}dists/{_codename()}{source.pocket}/InRelease"
    with tempfile.TemporaryDirectory() as directory:
        target = os.path.join(directory, "InRelease")
        done = subprocess.run(
            ["/usr/lib/apt/apt-helper", "-oAcquire::Retries=1", "download-file", url, target],
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise LabError(
            f"The Debian archive {source.uri} cannot be reached: check the network or apt's proxy, "
            "and try `apt-get update`."
        )
