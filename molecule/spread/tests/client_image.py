# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""An image that has of vLLM's what fetches and serves models: Python and the hub's client.

It is in the lab's registry under a hash of what it is made from, and made where it is not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "shared"))

from engine_image.commands import LabError, alone, run
from engine_image.image import LABEL, PLATFORMS, debian_mirror
from engine_image.registry import DEFAULT, MANIFEST

CACHE = HERE.parents[2] / ".cache" / "client-image"
REFERENCE = CACHE / "reference"
"""Where the inventory reads which image it is: repository@sha256:..."""
REPOSITORY = "lab/model-client"

SUITE, PYTHON = "bookworm", "3.11"
DEBIAN_PACKAGES = "python3,ca-certificates"
SITE = Path(f"usr/local/lib/python{PYTHON}/dist-packages")
UNUSED = (
    *(f"usr/share/{name}" for name in ("doc", "man", "locale", "info")),
    *(f"var/{name}" for name in ("cache/apt", "lib/apt/lists", "log")),
)


def push() -> None:
    """Have the image in the registry, and its name in REFERENCE. Raises LabError."""
    with alone(CACHE):
        tag = _content_hash()
        if not _digest(tag):
            _build(f"{DEFAULT}/{REPOSITORY}:{tag}")
        REFERENCE.write_text(f"{REPOSITORY}@{_digest(tag)}")


def _content_hash() -> str:
    digest = hashlib.sha256()
    for name in ("client_image.py", "requirements.txt"):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:12]


def _digest(tag: str) -> str:
    """`sha256:...` of the image in the registry, empty where it has none."""
    address = f"http://{DEFAULT}/v2/{REPOSITORY}/manifests/{tag}"
    request = urllib.request.Request(address, headers={"Accept": MANIFEST}, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.headers["Docker-Content-Digest"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return ""
        raise


def _build(name: str) -> None:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise LabError("the image is built with debootstrap: install it, and run this as root")
    # debootstrap refuses file systems mounted nodev or noexec, as /tmp often is.
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="build-") as directory:
        tree = Path(directory, "tree")
        include = f"--include={DEBIAN_PACKAGES}"
        run("debootstrap", "--variant=minbase", include, SUITE, str(tree), debian_mirror())
        for unused in UNUSED:
            shutil.rmtree(tree / unused, ignore_errors=True)
        run(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-cache-dir"),
            *("--only-binary=:all:", "--target", str(tree / SITE)),
            *("--python-version", PYTHON, "--implementation", "cp"),
            *(part for abi in ("cp311", "abi3", "none") for part in ("--abi", abi)),
            *(part for platform in PLATFORMS for part in ("--platform", platform)),
            *("--requirement", str(HERE / "requirements.txt")),
        )
        packed = ["tar", "--numeric-owner", "-C", str(tree), "-c", "."]
        with subprocess.Popen(packed, stdout=subprocess.PIPE) as tar:
            run("docker", "import", "--change", f"LABEL {LABEL}", "-", name, stdin=tar.stdout)
    run("docker", "push", "--quiet", name)
    run("docker", "image", "rm", name)
