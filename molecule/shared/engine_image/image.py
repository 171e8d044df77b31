# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Build the engine image: a minimal Debian tree, the pinned packages, one layer."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import engine

from .commands import LabError, run

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[2] / ".cache" / "engine-image"
RELEASE = "0.32.0"
LOCAL_NAME = "vllm-lab/vllm-cpu"
LABEL = "vllm.lab=shared"

SUITE, PYTHON = "bookworm", "3.11"
DEBIAN_PACKAGES = ["python3", "ca-certificates", "libgomp1", "libnuma1", "libstdc++6"]
SITE = Path("usr/local/lib/python3.11/dist-packages")
PLATFORMS = [
    *(f"manylinux_2_{minor}_x86_64" for minor in range(36, 16, -1)),  # Debian 12 has glibc 2.36
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
]
USER_LINE = "vllm:x:2000:0:vLLM:/home/vllm:/usr/sbin/nologin\n"
"""The user of the official image (its Dockerfile, 0.22.0 and later): any uid with gid 0 works."""
UNUSED = [
    # Needed to compile against torch; the image has no compiler, so it runs with enforce-eager.
    *(f"{SITE}/torch/{name}" for name in ("include", "share", "test", "bin/[!t]*", "bin/test_*")),
    f"{SITE}/bin",
    *(f"usr/share/{name}" for name in ("doc", "man", "locale", "info")),
    *(f"var/{name}" for name in ("cache/apt", "lib/apt/lists", "log")),
]
"""Glob patterns in the tree."""
CHANGES = [
    'ENTRYPOINT ["vllm","serve"]',
    "ENV PATH=/usr/local/bin:/usr/bin:/bin",
    "ENV LC_ALL=C.UTF-8",
    "ENV VLLM_NO_USAGE_STATS=1",
    "WORKDIR /home/vllm",
    "EXPOSE 8000",
    f"LABEL {LABEL}",
]
FREE_GIB = 8
"""Wanted on the file system of the cache: tree and packages while they are put together."""


def content_hash() -> str:
    """Twelve hex digits over everything that decides what the image holds."""
    digest = hashlib.sha256()
    for name in ("image.py", "requirements.txt", "vllm.py"):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:12]


def name() -> str:
    """`vllm-lab/vllm-cpu:<release>-<hash>`."""
    return f"{LOCAL_NAME}:{RELEASE}-{content_hash()}"


def build() -> str:
    """Name of the image, built unless the local Docker has it. Raises LabError."""
    if not run("docker", "image", "ls", "--quiet", name()):
        _require()
        # debootstrap refuses file systems mounted nodev or noexec, as /tmp often is.
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="build-") as directory:
            tree = Path(directory, "tree")
            _install(tree, Path(directory, "site"))
            _finish(tree)
            _import(tree)
    return name()


def _require() -> None:
    if os.geteuid() != 0:
        raise LabError("the engine image is built with debootstrap, which needs root: use sudo")
    if platform.machine() != "x86_64":
        raise LabError(f"the engine image is pinned for x86_64, this is {platform.machine()}")
    CACHE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(CACHE).free / 2**30
    if free < FREE_GIB:
        raise LabError(
            f"{free:.1f} GiB are free in {CACHE}, building the engine image takes {FREE_GIB}: "
            "make room there"
        )
    if not engine.which("debootstrap"):
        engine.install("debootstrap")


def debian_mirror() -> str:
    """Where this machine's apt gets Debian from, or LAB_DEBIAN_MIRROR if that is set."""
    from_environment = os.environ.get("LAB_DEBIAN_MIRROR")
    if from_environment:
        return from_environment
    mirrors = run(
        *("apt-get", "indextargets", "--format", "$(REPO_URI)"),
        *("Label: Debian", "Component: main", "Created-By: Packages"),
    ).splitlines()
    if not mirrors:
        raise LabError("apt has no Debian repository here: set LAB_DEBIAN_MIRROR to a mirror's URL")
    return mirrors[0]


def _install(tree: Path, site: Path) -> None:
    """Debian and the Python packages at the same time, each about half a minute."""
    log = CACHE / "debootstrap.log"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(DEBIAN_PACKAGES)}"]
    command += [SUITE, str(tree), debian_mirror()]
    with log.open("wb") as stream:
        debootstrap = subprocess.Popen(
            command, env=engine.system_environment(), stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            _pip(site)
        except BaseException:
            debootstrap.terminate()
            raise
        finally:
            debootstrap.wait()
    if debootstrap.returncode:
        last = log.read_text(errors="replace").strip().splitlines()[-1]
        raise LabError(f"debootstrap {SUITE} failed: {last} (all of it: {log})")
    shutil.rmtree(tree / SITE, ignore_errors=True)
    site.rename(tree / SITE)


def _pip(site: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--no-cache-dir", "--only-binary=:all:", "--target", str(site)]
    command += ["--python-version", PYTHON, "--implementation", "cp"]
    for abi in ("cp311", "abi3", "none"):
        command += ["--abi", abi]
    for tag in PLATFORMS:
        command += ["--platform", tag]
    command += ["--requirement", str(HERE / "requirements.txt")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return
    errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
    if any("torch==" in line for line in errors):
        raise LabError(
            "pip finds no CPU build of torch: point PIP_EXTRA_INDEX_URL at PyTorch's index of CPU "
            f"wheels, or PIP_FIND_LINKS at a folder with the wheel ({errors[0]})"
        )
    raise LabError(f"pip could not install the engine: {(errors or [result.stderr])[-1]}")


def _finish(tree: Path) -> None:
    """User, command, the metadata vLLM asks for; then what nothing reads is removed."""
    for path in [path for pattern in UNUSED for path in tree.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with (tree / "etc/passwd").open("a") as passwd:
        passwd.write(USER_LINE)
    for home in ("home/vllm", "home/vllm/.cache"):
        (tree / home).mkdir(exist_ok=True)
        os.chown(tree / home, 2000, 0)
        (tree / home).chmod(0o2775)
    shutil.copyfile(HERE / "vllm.py", tree / "usr/local/bin/vllm")
    (tree / "usr/local/bin/vllm").chmod(0o755)
    # The package is called vllm-cpu; vLLM looks up the version of a distribution named vllm.
    metadata = tree / SITE / f"vllm-{RELEASE}+cpu.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {RELEASE}+cpu\n")
    # The root is read-only when it runs, so bytecode made now is what a start can use. Some
    # packages ship templates that do not compile: hence the ignored exit status.
    compile_all = ["chroot", str(tree), "python3", "-m", "compileall", "-q", "-j", "0", f"/{SITE}"]
    subprocess.run(compile_all, capture_output=True, check=False)


def _import(tree: Path) -> None:
    command = ["docker", "import"]
    for change in CHANGES:
        command += ["--change", change]
    with subprocess.Popen(
        ["tar", "--numeric-owner", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE
    ) as tar:
        identifier = run(*command, "-", stdin=tar.stdout)
    if tar.returncode:
        run("docker", "image", "rm", identifier)
        raise LabError(f"tar of {tree} ended with {tar.returncode}: no image was made, try again")
    run("docker", "tag", identifier, name())
