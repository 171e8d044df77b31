# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Runs inside an image: turns apt's cache of packages into the only archive that apt knows."""

from __future__ import annotations

import email.utils
import hashlib
import pathlib
import subprocess

cache = pathlib.Path("/var/cache/apt/archives")
archive = pathlib.Path("/srv/apt")
archive.mkdir(parents=True)
index = ""
for package in sorted(cache.glob("*.deb")):
    name = package.name.replace("%3a", ":")
    fields = subprocess.run(
        ["dpkg-deb", "--field", str(package)], check=True, capture_output=True, text=True
    ).stdout
    content = package.read_bytes()
    index += f"{fields}Filename: ./{name}\nSize: {len(content)}\n"
    index += f"SHA256: {hashlib.sha256(content).hexdigest()}\n\n"
    package.rename(archive / name)
(archive / "Packages").write_text(index)
digest = hashlib.sha256(index.encode()).hexdigest()
# Without a Release file apt asks for every compression of the index and reports each as an error.
(archive / "Release").write_text(
    f"Date: {email.utils.formatdate(usegmt=True)}\n"
    f"SHA256:\n {digest} {len(index.encode())} Packages\n"
)
for sources in pathlib.Path("/etc/apt/sources.list.d").glob("*"):
    sources.unlink()
pathlib.Path("/etc/apt/sources.list").write_text(f"deb [trusted=yes] copy:{archive} ./\n")
for listed in pathlib.Path("/var/lib/apt/lists").glob("*_*"):
    listed.unlink()
subprocess.run(["apt-get", "-qq", "update"], check=True)
