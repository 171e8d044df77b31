# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Docker's repository for Debian, its packages made from Debian's own programs.

docker-ce, docker-ce-cli and containerd.io are laid out as Docker's; what runs is real. An engine's
version is that of the Debian package it was taken from.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vendor.package import EXECUTABLE, File, Package

SUITES = {"bookworm": "12", "trixie": "13"}
SOURCES = ("trixie", "sid")
"""Debian releases whose engine is taken; it runs on both of `SUITES`."""
PROGRAMS = ("docker.io", "docker-cli", "containerd")
LOW_LEVEL = ("runc", "tini")
"""Of the release that they run on: their libc is newer elsewhere."""

_GZIP = ("-Zgzip", "-z1")

_DOCKER_SERVICE = """\
[Unit]
Description=Docker Application Container Engine
Documentation=https://docs.docker.com
After=network-online.target nss-lookup.target docker.socket firewalld.service containerd.service time-set.target
Wants=network-online.target containerd.service
Requires=docker.socket
StartLimitBurst=3
StartLimitIntervalSec=60

[Service]
Type=notify
ExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutStartSec=0
RestartSec=2
Restart=always
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
Delegate=yes
KillMode=process
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
"""  # noqa: E501 - a line of the unit as Docker ships it
_DOCKER_SOCKET = """\
[Unit]
Description=Docker Socket for the API

[Socket]
ListenStream=/run/docker.sock
SocketMode=0660
SocketUser=root
SocketGroup=docker

[Install]
WantedBy=sockets.target
"""
_CONTAINERD_SERVICE = """\
[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target dbus.service

[Service]
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""
_START = """\
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable --quiet {units}
    systemctl {verb} {units} || true
fi
"""
_GROUP = """\
if [ "$1" = configure ] && ! getent group docker >/dev/null; then
    groupadd --system docker
fi
"""
_STOP = """\
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now {units} || true
fi
"""


@dataclass(frozen=True)
class Unpacked:
    """A Debian package, unpacked: its upstream version and where its files lie."""

    version: str
    tree: Path

    @classmethod
    def of(cls, archive: Path, directory: Path) -> Unpacked:
        """Unpack an archive below `directory`."""
        field = ["dpkg-deb", "--field", str(archive), "Version"]
        version = subprocess.run(field, check=True, capture_output=True, text=True).stdout.strip()
        tree = directory / archive.stem
        tree.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(tree)], check=True)
        # 26.1.5+dfsg1-9+deb13u1 and 1.7.24~ds1-6+deb13u1 are 26.1.5 and 1.7.24.
        upstream = version.rpartition("-")[0].replace("~", "+").partition("+")[0]
        return cls(upstream, tree)

    def program(self, name: str) -> File:
        """One of its programs."""
        found = [path for path in self.tree.glob(f"usr/*bin/{name}") if not path.is_symlink()]
        return File(found[0], EXECUTABLE)


def packages(
    suite: str, sources: Sequence[Mapping[str, Unpacked]], low: Mapping[str, Unpacked]
) -> Iterator[Package]:
    """The packages for one release of Debian, from those of each source by package name."""
    release = SUITES[suite]
    end = f"~debian.{release}~{suite}"
    for found in sources:
        engine, containerd = found["docker.io"], found["containerd"]
        version = f"5:{engine.version}-1{end}"
        yield Package(
            "docker-ce",
            version,
            {
                "Depends": f"containerd.io (>= {containerd.version}), docker-ce-cli, iptables,"
                " libsystemd0",
                "Recommends": "ca-certificates, docker-ce-rootless-extras, git, pigz, procps",
                "Conflicts": "docker (<< 1.5~), docker-engine, docker.io",
                "Replaces": "docker-engine",
            },
            files={
                "/usr/bin/dockerd": engine.program("dockerd"),
                "/usr/bin/docker-proxy": engine.program("docker-proxy"),
                "/usr/bin/docker-init": low["tini"].program("tini-static"),
                "/lib/systemd/system/docker.service": File.text(_DOCKER_SERVICE),
                "/lib/systemd/system/docker.socket": File.text(_DOCKER_SOCKET),
            },
            scripts={
                "postinst": _GROUP
                + _START.format(units="docker.socket docker.service", verb="restart"),
                "prerm": _STOP.format(units="docker.socket docker.service"),
            },
            compression=_GZIP,
        )
        yield Package(
            "docker-ce-cli",
            version,
            {
                "Depends": "libc6",
                "Recommends": "docker-buildx-plugin, docker-compose-plugin",
                "Conflicts": "docker (<< 1.5~), docker-cli",
                "Replaces": "docker-ce (<< 5:0), docker-cli",
            },
            files={"/usr/bin/docker": found["docker-cli"].program("docker")},
            compression=_GZIP,
        )
        yield Package("docker-ce-rootless-extras", version, {"Depends": "libc6"})
        yield Package(
            "containerd.io",
            f"{containerd.version}-1{end}",
            {
                "Depends": "libc6, libseccomp2",
                **dict.fromkeys(("Conflicts", "Provides", "Replaces"), "containerd, runc"),
            },
            files={
                **{
                    f"/usr/bin/{name}": containerd.program(name)
                    for name in ("containerd", "containerd-shim-runc-v2", "ctr")
                },
                "/usr/bin/runc": low["runc"].program("runc"),
                "/etc/containerd/config.toml": File.text('disabled_plugins = ["cri"]\n'),
                "/lib/systemd/system/containerd.service": File.text(_CONTAINERD_SERVICE),
            },
            scripts={
                "postinst": _START.format(units="containerd.service", verb="restart"),
                "prerm": _STOP.format(units="containerd.service"),
            },
            conffiles=["/etc/containerd/config.toml"],
            compression=_GZIP,
        )
    yield Package("docker-buildx-plugin", f"0.38.0-1{end}")
    yield Package("docker-compose-plugin", f"5.6.0-1{end}")
