# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The Docker Engine of this machine: does it answer, and how to make it.

Standard library only, so that it works before the virtual environment exists.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Any

from lab import settings
from lab.error import LabError

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_PID_FILE = Path("/var/run/docker.pid")
_START_SECONDS = 60


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection() -> http.client.HTTPConnection:
    url = urllib.parse.urlsplit(os.environ.get("DOCKER_HOST") or _DEFAULT_HOST)
    if url.scheme == "unix":
        return _UnixConnection(url.path)
    if url.scheme == "tcp" and url.hostname:
        return http.client.HTTPConnection(url.hostname, url.port or 2375, timeout=10)
    raise LabError(f"DOCKER_HOST is {url.geturl()!r}: the lab can use unix:// and tcp:// only.")


def read(path: str) -> Any:
    """The JSON answer of one GET on the engine's interface, or None when no engine answers."""
    connection = _connection()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return json.load(answer) if answer.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def answers() -> bool:
    """Whether a Docker Engine answers."""
    return read("/version") is not None


def images() -> list[str]:
    """Tags of the images that the lab made, as far as an engine answers."""
    label = urllib.parse.quote(json.dumps({"label": [settings.LABEL]}))
    return [
        tag
        for image in read(f"/images/json?filters={label}") or []
        for tag in image["RepoTags"] or []
    ]


def system_environment() -> dict[str, str]:
    """The environment with the system's directories on PATH, which some shells leave out."""
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    return {**os.environ, "PATH": path, "DEBIAN_FRONTEND": "noninteractive"}


def which(program: str) -> str | None:
    """Where a program lies, the system's directories included."""
    return shutil.which(program, path=system_environment()["PATH"])


def install(*packages: str) -> None:
    """Install Debian packages on this machine; waits for another apt, at most five minutes."""
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    commands = [
        [*apt, "update"],
        [*apt, "-y", "install", "--no-install-recommends", *packages],
    ]
    for command in commands:
        done = subprocess.run(
            command,
            env=system_environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise LabError(
                f"{' '.join(command)} failed; mend apt on this machine and run again:\n"
                f"{done.stdout[-2000:]}"
            )


def _engine_packages() -> list[str]:
    wanted = {"dockerd": "docker.io", "iptables": "iptables"}
    missing = [package for program, package in wanted.items() if not which(program)]
    if not which("docker"):
        # Debian 13 has the client in a package of its own, Debian 12 in docker.io.
        shown = subprocess.run(
            ["apt-cache", "show", "docker-cli"], env=system_environment(), capture_output=True
        )
        missing.append("docker.io" if shown.returncode else "docker-cli")
    return sorted(set(missing))


def _compiler_packages() -> list[str]:
    """What the NVML stand-in is compiled with; only root can add it."""
    return [] if which("cc") or os.geteuid() != 0 else ["gcc", "libc6-dev"]


def _start() -> Path:
    log = settings.CACHE / "dockerd.log"
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "docker"], env=system_environment(), check=False)
        return log
    if _PID_FILE.exists() and not _is_dockerd(_PID_FILE.read_text().strip()):
        _PID_FILE.unlink()  # a number that another process may have by now stops dockerd
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        subprocess.Popen(
            ["dockerd"],
            env=system_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
    return log


def _is_dockerd(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except OSError:
        return False


def ensure() -> str:
    """Make a Docker Engine answer and a C compiler be there; return what was done, as a line."""
    compiler = _compiler_packages()
    if answers():
        if compiler:
            install(*compiler)
            return f"Docker answers; installed {', '.join(compiler)}."
        return "Docker answers."
    if os.geteuid() != 0:
        raise LabError("No Docker answers and you are not root: start Docker, or run this as root.")
    packages = _engine_packages() + compiler
    if packages:
        install(*packages)
    started = time.monotonic()
    log = _start() if not answers() else None
    while not answers():
        if time.monotonic() - started > _START_SECONDS:
            tail = log.read_text(errors="replace")[-1500:] if log and log.exists() else ""
            raise LabError(
                f"Docker does not answer {_START_SECONDS} s after its start; see {log}:\n{tail}"
            )
        time.sleep(0.2)
    did = f"installed {', '.join(packages)} and started" if packages else "started"
    return f"Docker {did}, answered after {time.monotonic() - started:.1f} s."


def client() -> Any:
    """The Docker SDK's client; needs the virtual environment and an engine that answers."""
    try:
        import docker  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        raise LabError(
            "The Docker SDK is missing: run the lab with the project's .venv/bin/python."
        ) from error
    if not answers():
        raise LabError("No Docker answers: run the lab's `engine` first.")
    return docker.from_env(timeout=600)
