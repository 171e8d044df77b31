# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The vendors' repositories on the lab's network: one server for all labs of this machine."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vendor import build, server
from vendor.package import PackageError

from lab import archive, engine, images, registry, settings
from lab.error import LabError

_SECONDS = 30
_SERVER = Path(server.__file__)
_DIRECTORY = "/srv/vendor"
_LABEL = f"{settings.LABEL}.content"


def ensure(client: Any) -> dict[str, Any]:
    """Make the server run with repositories as they are now; what inventories need of them.

    That is also kept in a file, which inventories read with a lookup.
    """
    registry.ensure_network(client)
    root, described = _built()
    # Every checkout makes keys of its own: the recipe alone does not tell whose server this is.
    content = hashlib.sha256(json.dumps([build.digest(), described]).encode()).hexdigest()
    container = _find(client, content)
    if container is None:
        container = _create(client, root, content)
    if container.status != "running":
        container.start()
        container.reload()
    address = container.attrs["NetworkSettings"]["Networks"][settings.NETWORK]["IPAddress"]
    _wait(address)
    found = {"url": f"http://{settings.VENDOR_ALIAS}", "address": address, **described}
    settings.CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = settings.VENDOR_FILE.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(found, indent=2) + "\n")
    unfinished.replace(settings.VENDOR_FILE)
    return found


def _built() -> tuple[Path, dict[str, Any]]:
    missing = [program for program in ("cc", "gpg", "dpkg-deb") if not engine.which(program)]
    if missing:
        raise LabError(
            f"{', '.join(missing)} is missing for the vendors' repositories: "
            "apt install gcc libc6-dev gpg gpg-agent dpkg."
        )
    try:
        return build.build(settings.VENDOR_CACHE, fetch)
    except (PackageError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or b""
        raise LabError(
            f"The vendors' repositories cannot be built: {error}\n"
            f"{said if isinstance(said, str) else said.decode(errors='replace')}"
        ) from error


def fetch(suite: str, packages: Sequence[str], directory: Path) -> Mapping[str, Path]:
    """Fetch packages of a Debian release from this machine's mirror, as if it ran that release."""
    for name in ("lists/partial", "archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "status").touch()
    main = next(source for source in archive.sources() if source.pocket == "")
    signed = f"[signed-by={archive.KEYRING}] " if archive.KEYRING.exists() else ""
    line = main.line(suite).replace("deb ", f"deb {signed}", 1)
    (directory / "sources.list").write_text(f"{line}\n")
    options = {
        "Dir::State": directory,
        "Dir::State::lists": directory / "lists",
        "Dir::State::status": directory / "status",
        "Dir::Cache": directory,
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": "-",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    arguments = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    _apt(directory, "apt-get", "-qq", *arguments, "update")
    _apt(directory, "apt-get", "-qq", *arguments, "download", *packages)
    return {name: next(directory.glob(f"{name}_*.deb")) for name in packages}


def _apt(directory: Path, *command: str) -> None:
    done = subprocess.run(
        command,
        cwd=directory,
        env=engine.system_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        raise LabError(f"Debian's packages cannot be fetched:\n{done.stdout[-2000:]}")


def _command() -> list[str]:
    # The text itself, not a path: the engine need not see this machine's files.
    return ["python3", "-u", "-c", _SERVER.read_text(), _DIRECTORY, "80"]


def _image() -> str:
    return images.base(settings.HUB_SUITE)


def _find(client: Any, content: str) -> Any:
    """The server's container, unless it is missing or made from something else."""
    import docker.errors  # type: ignore[import-untyped,unused-ignore]

    try:
        container = client.containers.get(settings.VENDOR)
    except docker.errors.NotFound:
        return None
    made_from = container.attrs["Config"]
    labelled = made_from["Labels"].get(_LABEL)
    if (made_from["Image"], made_from["Cmd"], labelled) == (_image(), _command(), content):
        return container
    container.remove(force=True)
    return None


def _create(client: Any, root: Path, content: str) -> Any:
    container = client.containers.create(
        _image(),
        _command(),
        name=settings.VENDOR,
        hostname=settings.VENDOR_ALIAS,
        init=True,
        labels={settings.LABEL: settings.SHARED, _LABEL: content},
        network=settings.NETWORK,
        networking_config={
            settings.NETWORK: client.api.create_endpoint_config(aliases=[settings.VENDOR_ALIAS])
        },
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(root, arcname=_DIRECTORY.lstrip("/"))
    container.put_archive("/", packed.getvalue())
    return container


def _wait(address: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(
                f"http://{address}/libnvidia-container/gpgkey", timeout=5
            ) as answer:
                answer.read()
                return
        except OSError:
            time.sleep(0.1)
    raise LabError(
        f"The vendors' repositories do not answer on {address} after {_SECONDS} s: "
        f"see `docker logs {settings.VENDOR}`."
    )
