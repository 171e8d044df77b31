# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The lab's images: a virgin Debian host per release, and the registry on top of one of them.

An image's tag ends in a hash of everything that goes into it, so that it is built once.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lab import archive, engine, settings
from lab.error import LabError

_TRIMMED = ("doc", "info", "locale", "man")
_OFFLINE = Path(__file__).with_name("offline_apt.py")
_UPDATE = "timeout 60 apt-get -qq -o APT::Update::Error-Mode=any -o Acquire::Retries=0 update"
_REGISTRY_CONFIG = {
    "version": "0.1",
    "storage": {"delete": {"enabled": True}, "filesystem": {"rootdirectory": "/var/lib/registry"}},
    "http": {"addr": ":5000"},
}
_REGISTRY_SCRIPT = (
    "apt-get -qq -y -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="
    " install --no-install-recommends docker-registry >/dev/null"
    f" && echo '{json.dumps(_REGISTRY_CONFIG)}' >/etc/docker/registry/config.yml"
)
_REGISTRY_COMMAND = ["docker-registry", "serve", "/etc/docker/registry/config.yml"]


def release(suite: str) -> str:
    """The Debian release of a suite: `bookworm` of `bookworm-machine`."""
    return suite.partition("-")[0]


def recipe(suite: str) -> list[str]:
    """The arguments of mmdebstrap for one Debian release, this machine's mirror left out."""
    packages = {**settings.SUITES, **settings.MACHINES}[suite]
    prefetch = " ".join(packages.prefetched)
    masked = " ".join(settings.MASKED)
    return [
        "--variant=minbase",
        "--mode=root",
        "--format=tar",
        f"--include={','.join((*settings.INSTALLED, *packages.installed))}",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in _TRIMMED),
        "--dpkgopt=force-unsafe-io",
        *packages.hooks,
        # Hosts install from this cache; `apt-get` itself knows when something newer is out.
        "--skip=cleanup/apt",
        '--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get clean',
        '--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --download-only'
        f" --no-install-recommends install {prefetch}",
        f'--customize-hook=chroot "$1" systemctl mask {masked}',
    ]


def changes() -> list[str]:
    """Image configuration in the words of a Dockerfile."""
    return [
        f"LABEL {settings.LABEL}={settings.SHARED}",
        "ENV container=docker",
        'CMD ["/sbin/init"]',
    ]


def tag(name: str, *inputs: object) -> str:
    """`vllm-lab/<name>-<hash of the inputs>`; a name without a tag gets the hash as its tag."""
    digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]
    return f"{settings.IMAGES}/{name}{'-' if ':' in name else ':'}{digest}"


def base(suite: str) -> str:
    """The name of a release's host image."""
    return tag(f"debian:{suite}", recipe(suite), changes(), _OFFLINE.read_text())


def registry() -> str:
    """The name of the registry's image."""
    return tag("registry", base(settings.REGISTRY_SUITE), _REGISTRY_SCRIPT, _REGISTRY_COMMAND)


def missing() -> list[str]:
    """The images that are not there yet; works without the Docker SDK."""
    present = set(engine.images())
    return [name for name in (*map(base, settings.SUITES), registry()) if name not in present]


def build(client: Any, say: Callable[[str], None]) -> None:
    """Build what is missing, all Debian releases side by side."""
    absent = missing()
    build_bases(client, settings.SUITES, say)
    if registry() in absent:
        say(_build_registry(client))
    for name in (*map(base, settings.SUITES), registry()):
        if name not in absent:
            say(f"{name}: there already")


def build_bases(client: Any, suites: Iterable[str], say: Callable[[str], None]) -> None:
    """Build the host images that are missing for these suites, side by side."""
    present = set(engine.images())
    absent = [suite for suite in suites if base(suite) not in present]
    if absent:
        _prepare()
        with ThreadPoolExecutor(len(absent)) as pool:
            for line in pool.map(lambda suite: _build_base(client, suite), absent):
                say(line)


def remove_outdated(client: Any) -> None:
    """Remove images of earlier recipes that no container needs."""
    import docker.errors  # type: ignore[import-untyped,unused-ignore]

    current = [*map(base, (*settings.SUITES, *settings.MACHINES)), registry()]
    rooms = {name.partition(":")[0] for name in current}
    for name in engine.images():
        if name.partition(":")[0] in rooms and name not in current:
            with suppress(docker.errors.APIError):  # a host of a lab still runs from it
                client.images.remove(name)


def _prepare() -> None:
    if os.geteuid() != 0:
        raise LabError("Building the lab's images needs root (mmdebstrap): run this once as root.")
    if not engine.which("mmdebstrap"):
        engine.install("mmdebstrap")


def _build_base(client: Any, suite: str) -> str:
    started = time.monotonic()
    settings.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.CACHE) as directory:
        tarball = os.path.join(directory, f"{suite}.tar")
        _bootstrap(suite, tarball)
        # An image gets its name when it is finished, so that an interrupted build is repeated.
        repository, _, label = base(suite).partition(":")
        draft = f"{repository}:{label}-unfinished"
        client.api.import_image_from_file(
            tarball, repository=repository, tag=f"{label}-unfinished", changes=changes()
        )
    reached = _settle_archive(client, draft)
    client.images.get(draft).tag(repository, label)
    client.images.remove(draft)
    return f"{base(suite)}: built in {time.monotonic() - started:.0f} s, apt {reached}"


def _bootstrap(suite: str, tarball: str) -> None:
    credentials = [path for path in ("auth.conf", "auth.conf.d") if Path("/etc/apt", path).exists()]
    command = [
        "mmdebstrap",
        *recipe(suite),
        *(f"--aptopt={option}" for option in archive.options()),
        *(f'--setup-hook=cp -rT /etc/apt/{path} "$1/etc/apt/{path}"' for path in credentials),
        *([f"--keyring={archive.KEYRING}"] if archive.KEYRING.exists() else []),
        release(suite),
        tarball,
        *(source.line(release(suite)) for source in archive.sources()),
    ]
    done = subprocess.run(
        command,
        env=engine.system_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise LabError(f"Debian {suite} could not be bootstrapped:\n{done.stdout[-2000:]}")


def _settle_archive(client: Any, image: str) -> str:
    """Leave the machine's mirror in the image if a container reaches it, else only the cache."""
    with _container(client, image) as run:
        if run(["sh", "-c", _UPDATE])[0] == 0:
            return "uses this machine's mirror"
    with _container(client, image, commit_as=image, conf={"Cmd": ["/sbin/init"]}) as run:
        code, output = run(["python3", "-c", _OFFLINE.read_text()])
        if code:
            raise LabError(f"The packages in {image} could not be made an archive:\n{output}")
    return "uses the packages in the image (a container cannot reach this machine's mirror)"


def _build_registry(client: Any) -> str:
    started = time.monotonic()
    conf = {"Cmd": _REGISTRY_COMMAND, "Labels": {settings.LABEL: settings.SHARED}}
    image = base(settings.REGISTRY_SUITE)
    with _container(client, image, commit_as=registry(), conf=conf) as run:
        code, output = run(["sh", "-c", _REGISTRY_SCRIPT])
        if code:
            raise LabError(f"docker-registry could not be installed in {image}:\n{output[-2000:]}")
    return f"{registry()}: built in {time.monotonic() - started:.0f} s"


@contextmanager
def _container(
    client: Any, image: str, commit_as: str = "", conf: dict[str, Any] | None = None
) -> Iterator[Callable[[Sequence[str]], tuple[int, str]]]:
    """A throw-away container on the default network, committed at the end when a name is given."""
    container = client.containers.run(
        image,
        ["sleep", "infinity"],
        detach=True,
        init=True,
        labels={settings.LABEL: settings.SHARED},
    )

    def run(command: Sequence[str]) -> tuple[int, str]:
        done = container.exec_run(command, environment={"DEBIAN_FRONTEND": "noninteractive"})
        return done.exit_code, done.output.decode(errors="replace")

    try:
        yield run
        if commit_as:
            repository, _, label = commit_as.partition(":")
            container.commit(repository=repository, tag=label, conf=conf)
    finally:
        container.remove(force=True, v=True)
