# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Writes a bundle on the controller; documented in modules/bundle.py."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.baremetal.vllm.plugins.module_utils._image_pull import (
    credentials_of,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import (
    SourceError,
    trust,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle import (
    FORMAT,
    MARK,
    PARTS,
    BundleError,
    image_part,
    packages_part,
    write,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle_images import fetch_image
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle_models import (
    fetch_model,
    paths_of,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle_packages import (
    PackagesError,
    fetch_packages,
    wanted,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    is_present,
    split_image,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory_edge import served_names
from ansible_collections.baremetal.vllm.plugins.plugin_utils._pins import pinned_image
from ansible_collections.baremetal.vllm.plugins.plugin_utils._progress_display import (
    ProgressDisplay,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._provision import ROLES, wants_gpus
from ansible_collections.baremetal.vllm.plugins.plugin_utils._registry import RegistryError
from ansible_collections.baremetal.vllm.plugins.plugin_utils._report import report
from ansible_collections.baremetal.vllm.plugins.plugin_utils._transfer import Transfer
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import (
    HostVariables,
    RoleInterfaces,
    plain,
)

_ARGUMENTS: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "systems": {"type": "list", "elements": "str", "required": True},
    "architecture": {"type": "str", "choices": ["amd64", "arm64"], "default": "amd64"},
    "kernels": {"type": "list", "elements": "str", "default": []},
    "distribution_mirror": {"type": "str", "default": ""},
    "listings": {"type": "list", "elements": "dict", "default": []},
    "model_token": {"type": "str", "default": "", "no_log": True},
    "registry_config": {"type": "path", "default": "~/.docker/config.json"},
    "insecure_registries": {"type": "list", "elements": "str", "default": []},
    "ca_path": {"type": "path"},
}
_WHEEL = "nvidia-ml-py"
_GIB = 2**30


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Brings together on the controller what the hosts of the inventory need."""

    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        arguments = plain(arguments)
        self._display = ProgressDisplay(Display().display, "bundle")
        images, settings = self._asked(task_vars)
        if problems := _unpinned(images):
            return result | report(problems, "the inventory", "nothing was written")
        if self._task.check_mode:
            return result | {"changed": True}
        directory = Path(os.path.abspath(Path(arguments["directory"]).expanduser()))
        try:
            with _alone(directory):
                content, files = self._gather(directory, arguments, images, settings)
                write(directory, content, files)
        except (BundleError, RegistryError, PackagesError, PullError, SourceError) as error:
            return result | report([str(error)], "the bundle", "what has arrived is kept")
        total = sum((directory / file).stat().st_size for file in files)
        self._display.line(f"{directory}: {len(files)} files, {total / _GIB:.2f} GiB")
        return result | {"changed": True, "directory": str(directory), "content": content}

    def _asked(
        self, task_vars: Mapping[str, Any]
    ) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
        """Images of the hosts with the settings of their registry, and what decides on packages."""
        interfaces = RoleInterfaces(self._loader)
        groups = task_vars["groups"]
        gpu_hosts = groups.get("gpu_hosts", [])
        images: dict[str, dict[str, Any]] = {}
        settings: list[dict[str, Any]] = []
        edges = groups.get("edge_hosts") or gpu_hosts
        hosts = {
            host: HostVariables(interfaces, task_vars["hostvars"].raw_get(host), self._templar)
            for host in dict.fromkeys([*gpu_hosts, *groups.get("edge_hosts", [])])
        }
        served = {host: served_names(hosts[host]) for host in gpu_hosts}
        for host, own in hosts.items():
            fronts = gpu_hosts if groups.get("edge_hosts") else [host]
            instances = [
                each
                for each in (own.get("vllm_instances", []) if host in gpu_hosts else [])
                if is_present(each)
            ]
            if instances:
                image = pinned_image(own["vllm_image"], own.get("vllm_pins", {}))
                images[image] = {
                    name: own.get(f"vllm_registry_{name}", "") for name in ("username", "password")
                }
            asked = {
                "gpu_host": host in gpu_hosts,
                "wants_gpus": wants_gpus(instances),
                "edge": host in edges,
                "several_models": len({name for front in fronts for name in served[front]}) > 1,
                "tls": own.get("edge_tls", "none"),
                "shares_address": bool(own.get("edge_vip_address")),
                "roles": {
                    role: {
                        name.removeprefix(f"{role}_"): value
                        for name, value in own.items()
                        if name.startswith(f"{role}_")
                    }
                    for role in ROLES.values()
                },
            }
            if asked not in settings:
                settings.append(asked)
        return images, settings

    def _gather(
        self,
        directory: Path,
        arguments: Mapping[str, Any],
        images: Mapping[str, Mapping[str, Any]],
        settings: Iterable[Mapping[str, Any]],
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Bring all of it; return what bundle.json says, and the files."""
        content: dict[str, Any] = {"format": FORMAT, "architecture": arguments["architecture"]}
        # First what is small, and fails soon.
        content["wheels"] = [self._wheel(directory)]
        files: dict[str, str] = dict.fromkeys(content["wheels"], "")
        content["packages"] = {
            system: self._packages(system, directory, arguments, settings, files)
            for system in arguments["systems"]
        }
        content["images"] = [
            self._image(image, registry, directory, arguments, files)
            for image, registry in images.items()
        ]
        content["models"] = []
        transfer = Transfer(trust(arguments["ca_path"] or ""))
        for listing in arguments["listings"]:
            found = fetch_model(
                listing,
                directory,
                transfer,
                arguments["model_token"],
                tell=self._teller(listing["model"]),
            )
            content["models"].append(found)
            files |= paths_of(found)
        return content, files

    def _packages(
        self,
        system: str,
        directory: Path,
        arguments: Mapping[str, Any],
        settings: Iterable[Mapping[str, Any]],
        files: dict[str, str],
    ) -> dict[str, Any]:
        part = packages_part(system)
        asked = wanted(system, settings, arguments["architecture"], arguments["kernels"])
        found = fetch_packages(
            asked,
            directory / part,
            arguments["architecture"],
            arguments["distribution_mirror"],
            self._display.line,
        )
        for note in found.get("notes", []):
            Display().warning(note)
        files |= {f"{part}/{each['file']}": each["sha256"] for each in found["packages"]}
        files[f"{part}/Packages"] = ""
        versions: dict[str, list[str]] = {}
        for each in found["packages"]:
            versions.setdefault(each["name"], []).append(each["version"])
        return {"index_sha256": found["index_sha256"], "packages": versions}

    def _image(
        self,
        image: str,
        registry: Mapping[str, str],
        directory: Path,
        arguments: Mapping[str, Any],
        files: dict[str, str],
    ) -> dict[str, Any]:
        reference = Reference.parse(image)
        config = os.path.expanduser(arguments["registry_config"])
        credentials = (
            (registry["username"], registry["password"])
            if registry["username"]
            else credentials_of(config, reference.registry)
        )
        part = image_part(reference.digest)
        found = fetch_image(
            image,
            directory / part,
            arguments["architecture"],
            credentials,
            arguments["ca_path"] or "",
            arguments["insecure_registries"],
            self._display.line,
        )
        files |= {f"{part}/{path}": sha256 for path, sha256 in found["files"].items()}
        return {"reference": image, "digest": reference.digest, "size": found["size_bytes"]}

    def _teller(self, name: str) -> Callable[[Mapping[str, Any]], None]:
        """Lines of a download."""

        def tell(status: Mapping[str, Any]) -> None:
            if not status:
                return
            current, total = status["current_bytes"], status["total_bytes"]
            rate = (status.get("bytes_per_second") or 0) / 2**20
            text = f"{name} {current / _GIB:.2f} of {total / _GIB:.2f} GiB, {rate:.0f} MiB/s"
            self._display.update(time.monotonic(), (name, status["phase"]), current, text)

        return tell

    def _wheel(self, directory: Path) -> str:
        """The reader of GPUs for a controller without network, at the version that is here."""
        target = directory / "wheels"
        target.mkdir(exist_ok=True)
        try:
            version = importlib.metadata.version(_WHEEL)
        except importlib.metadata.PackageNotFoundError:
            wanted_wheel = _WHEEL
        else:
            wanted_wheel = f"{_WHEEL}=={version}"
            for there in target.glob(f"nvidia_ml_py-{version}-*.whl"):
                return str(there.relative_to(directory))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", str(target), wanted_wheel]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        wheels = sorted(target.glob("nvidia_ml_py-*.whl"), key=lambda file: file.stat().st_mtime)
        if done.returncode or not wheels:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise BundleError(
                f"`pip download {wanted_wheel}` failed on this machine ({said}); mend that and run"
                " again."
            )
        return str(wheels[-1].relative_to(directory))


def _unpinned(images: Iterable[str]) -> list[str]:
    """A bundle knows images by what they are, not by what they are called today."""
    return [
        f"vllm_image {image} has no digest; run playbooks/pin.yml with this inventory first."
        for image in images
        if not split_image(image)[2]
    ]


@contextmanager
def _alone(directory: Path) -> Any:
    """Keep a second run from the same bundle."""
    foreign = [part for part in PARTS if (directory / part).exists()]
    if foreign and not (directory / MARK).exists():
        raise BundleError(
            f"bundle_directory {directory} has {', '.join(foreign)} and is no bundle; what is there"
            " is left alone, name a directory of its own."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / MARK).open("w")
    except OSError as error:
        raise BundleError(
            f"bundle_directory {directory} cannot be written ({error.strerror}); name another."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundleError(
                f"another run writes {directory} now; wait for it, or name another directory."
            ) from None
        yield
