# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Pins the inventory's images and models, on the controller; documented in modules/pin.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.baremetal.vllm.plugins.module_utils._image_pull import (
    credentials_of,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    check_image,
    check_instance,
    is_present,
    models_of,
    split_image,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._model_commit import (
    ModelError,
    commit_of,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._pins import (
    PinsError,
    changes,
    line_of,
    needs_pin,
    parse,
    render,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._registry import (
    RegistryError,
    digest_of,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._report import report
from ansible_collections.baremetal.vllm.plugins.plugin_utils._specs import check_value
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import (
    HostVariables,
    RoleInterfaces,
    plain,
)

_ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path"},
    "provider": {
        "type": "str",
        "choices": ["huggingface", "modelscope", "http", "s3"],
        "default": "huggingface",
    },
    "model_endpoint": {"type": "str"},
    "model_token": {"type": "str", "no_log": True},
    "registry_config": {"type": "path", "default": "~/.docker/config.json"},
    "insecure_registries": {"type": "list", "elements": "str", "default": []},
    "ca_path": {"type": "path"},
}
# Keys of an instance that name models.
_NAMING = ("model", "extra_models")
_BESIDE_INVENTORY = Path("group_vars", "all", "pins.yml")

Pins = dict[str, dict[str, str]]


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Asks registries and the hub once for all hosts, and writes what they say."""

    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        arguments = plain(arguments)
        wanted, problems = self._wanted(task_vars)
        if problems:
            return result | report(problems, "the inventory")
        try:
            file = _file(arguments["path"] or "")
            before = _read(file)
            old = parse(before, str(file))
            new, problems = _resolved(wanted, arguments)
            if problems:
                return result | report(problems, "the images and models")
            after = render(new)
            if before != after and not self._task.check_mode:
                _write(file, after)
        except PinsError as error:
            return result | report([str(error)], "the file of pins")
        found = changes(old, new)
        for line in [line_of(change) for change in found] or [f"Nothing has moved; see {file}."]:
            Display().display(line)
        if self._task.diff:
            result["diff"] = {
                "before": before,
                "after": after,
                "before_header": str(file),
                "after_header": str(file),
            }
        return result | {
            "changed": before != after,
            "path": str(file),
            "vllm_pins": new,
            "changes": found,
        }

    def _wanted(self, task_vars: Mapping[str, Any]) -> tuple[dict[str, set[str]], list[str]]:
        """What all GPU hosts name by something that may move, and what cannot be read."""
        wanted: dict[str, set[str]] = {"images": set(), "models": set()}
        problems: list[str] = []
        hosts = task_vars["groups"].get("gpu_hosts", [])
        if not hosts:
            problems = [
                "the inventory has no host in the group gpu_hosts; give that of your fleet with -i."
            ]
        interfaces = RoleInterfaces(self._loader, ["vllm"])
        spec = interfaces.specs["vllm"]["vllm_instances"]
        for host in hosts:
            own = HostVariables(interfaces, task_vars["hostvars"].raw_get(host), self._templar)
            found = [
                f"{host}: {name} {_unreadable(own, name)}"
                for name in ("vllm_image", "vllm_instances")
                if name not in own
            ]
            if not found:
                image = str(own["vllm_image"])
                unfit = check_image(image, "")
                found = [f"{host}: vllm_image {unfit}"] if unfit else []
                wanted["images"].update([] if split_image(image)[2] else [image])
                models, wrong = _models(f"{host}: vllm_instances", own["vllm_instances"], spec)
                wanted["models"].update(models)
                found += wrong
            problems += found
        return wanted, problems


def _unreadable(own: HostVariables, name: str) -> str:
    return own.errors.get(
        name, "refers to facts, which nobody has asked of the host; give it a value without them."
    )


def _models(where: str, value: Any, spec: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Models of the instances that are to be pinned, and what is wrong with them."""
    instances, problems = check_value(where, value, spec)
    models: list[str] = []
    for index, instance in enumerate(instances or []):
        if not instance or not is_present(instance) or "model" not in instance:
            continue
        named = {key: instance[key] for key in _NAMING if key in instance}
        problems += [f"{where}[{index}]{problem}" for problem in check_instance(named, "")]
        models += filter(needs_pin, models_of(instance))
    return models, problems


def _resolved(
    wanted: Mapping[str, set[str]], arguments: Mapping[str, Any]
) -> tuple[Pins, list[str]]:
    """All that is wanted with what it names now, and sentences for what cannot be had."""
    pins: Pins = {"images": {}, "models": {}}
    problems: list[str] = []
    ca_path = arguments["ca_path"] or ""
    config = os.path.expanduser(arguments["registry_config"])
    for reference in sorted(wanted["images"]):
        try:
            credentials = credentials_of(config, Reference.parse(reference).registry)
            insecure = arguments["insecure_registries"]
            pins["images"][reference] = digest_of(reference, credentials, ca_path, insecure)
        except (PullError, RegistryError) as error:
            problems.append(str(error))
    for model in sorted(wanted["models"]):
        try:
            pins["models"][model] = commit_of(
                model,
                arguments["provider"],
                arguments["model_endpoint"] or "",
                arguments["model_token"] or "",
                ca_path,
            )
        except ModelError as error:
            problems.append(str(error))
    # A file of authorities that cannot be used is one cause, whatever it was needed for.
    return pins, list(dict.fromkeys(problems))


# -- the file ------------------------------------------------------------------------------------


def _file(path: str) -> Path:
    """The file to write: the one asked for, or the one that Ansible reads with the inventory."""
    file = Path(path).expanduser().absolute() if path else _inventory() / _BESIDE_INVENTORY
    directory = file.parent
    if directory.parent.name in ("group_vars", "host_vars"):
        for suffix in ("", *constants.YAML_FILENAME_EXTENSIONS):
            other = directory.with_name(directory.name + suffix)
            if other.is_file():
                raise PinsError(
                    f"{other} is a file, and Ansible reads only one of it and the directory"
                    f" {directory}, where the pins go; move it to {directory}/main.yml."
                )
    return file


def _inventory() -> Path:
    """The directory whose group_vars Ansible reads with the inventory that this run was given."""
    given = context.CLIARGS.get("inventory") or constants.DEFAULT_HOST_LIST
    sources = [given] if isinstance(given, str) else list(given)
    if len(sources) != 1 or not Path(sources[0]).exists():
        raise PinsError(
            "path is not given, and this run has not one inventory beside which the pins could go;"
            " name the file (-e pins_file=FILE for playbooks/pin.yml)."
        )
    source = Path(sources[0]).absolute()
    return source if source.is_dir() else source.parent


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "no UTF-8"
        raise PinsError(f"{file} cannot be read ({reason}); mend or remove it.") from None


def _write(file: Path, text: str) -> None:
    """Replace the file as a whole; a symbolic link to it stays one."""
    target = file.resolve()
    # Ansible passes over files with a dot in front.
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with fresh.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            if target.exists():
                shutil.copymode(target, fresh)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise PinsError(
            f"{file} cannot be written ({error.strerror}); name a file that this user may write in"
            " path (-e pins_file=FILE for playbooks/pin.yml)."
        ) from None
