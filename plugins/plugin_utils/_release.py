# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A release: the files that say completely how one instance runs, and the id they give it.

Pure and deterministic: the same instance and settings give the same bytes on any controller, so
that a second run finds nothing to change and a rollback starts exactly what ran before.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import yaml

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import (
    catalogue,
    check_environment,
    check_options,
    normalise,
    version,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    adapter_names,
    extra_models,
    gpu_devices,
    is_local,
    models_of,
    port_of,
    replica_name,
)

# Where things are in the container.
_CONFIG = "/etc/vllm/config.yaml"
_HOME = "/home/vllm"
_CACHE = f"{_HOME}/.cache"
_MODEL = "/model"
_EXTRA = "/models"
_PORT = 8000

# Stands for the id while the id is computed from the text that will hold it.
_ID = "@release-id@"
_ID_LENGTH = 12

# Seconds between vLLM's own deadline and Docker's.
_STOP_MARGIN = 15
_SSE_KEEP_ALIVE = 15

_READY_TIMEOUT = "VLLM_ENGINE_READY_TIMEOUT_S"


@dataclass(frozen=True)
class Settings:
    """What all instances of a host share. Sizes in GiB, times in seconds."""

    release: str
    image: str  # what `docker run` is given
    listen_address: str
    container_user: str = "2000:0"
    shm_size_gib: int = 16
    shutdown_timeout: int = 60
    http_keep_alive: int = 120
    state_directory: str = "/var/lib/vllm"
    config_directory: str = "/etc/vllm"
    secrets_file: str = ""  # default: <config_directory>/<name>.secrets
    reference: str = ""  # the image as the inventory names it
    secrets_digest: str = ""  # a rotated secret makes a new release
    log_level: str = "INFO"
    ready_timeout: int = 1800
    numa_pinning: bool = False  # keep to the processors and the memory near the GPUs
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Model as the inventory names it -> ``commit`` and ``directory`` of the host's copy."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """
        :raises ValueError: a key is unknown or one without default is missing.
        """
        known = [each.name for each in fields(cls)]
        unknown = sorted(set(values) - set(known))
        missing = [name for name in ("release", "image", "listen_address") if name not in values]
        if unknown or missing:
            words = [f"has {', '.join(unknown)}"] if unknown else []
            words += [f"lacks {', '.join(missing)}"] if missing else []
            raise ValueError(f"settings {' and '.join(words)}; its keys are {', '.join(known)}.")
        numbers = ("shm_size_gib", "shutdown_timeout", "http_keep_alive", "ready_timeout")
        arguments: dict[str, Any] = dict(values)
        arguments |= {key: int(values[key]) for key in numbers if key in values}
        return cls(**arguments)


# What plan.json says. It is no part of a release's id: an engine is not restarted because a reason
# is worded better.
_PLAN = "plan.json"
_PLAN_KEYS = (
    "flags",
    "env",
    "tensor_parallel_size",
    "replicas",
    "memory_gib",
    "kv_tokens",
    "max_concurrency",
    "reasons",
    "notes",
)


def build(
    instance: Mapping[str, Any],
    settings: Mapping[str, Any],
    plan: Mapping[str, Any] | None = None,
    replica: int = 1,
) -> dict[str, Any]:
    """The release of an instance, or of one of its replicas.

    :param instance: an entry of vllm_instances.
    :param settings: the fields of :class:`Settings`.
    :param plan: as ``_instance_plans`` makes it; without one the GPUs are those that ``gpus`` names
        and the flags those that need no GPU.
    :param replica: from 1; the second one is ``<name>-2`` on the next port, under the same model
        name.
    :returns: ``name``, ``served_name``, ``adapters`` (names of LoRA adapters), ``id`` (hex),
        ``directory``, ``files`` (name -> text), ``publish`` (``address:port``), ``port``, ``unit``,
        ``container``, ``image``, ``url``, and ``prediction`` (what plan.json says of memory and KV
        cache).
    :raises ValueError: an option or a variable that the release does not know, unreadable gpus, or
        a model that is no directory and is not among the host's copies.
    """
    shared = Settings.from_mapping(settings)
    _refuse_invalid(instance, shared.release)
    plan = plan or _unplanned(instance, shared.release)
    engine = _Engine(instance, plan, replica)
    name, port = engine.name, engine.port
    directory = f"{shared.state_directory}/{name}/releases/{_ID}"
    publish = f"{_bracketed(shared.listen_address)}:{port}"
    files = {
        "config.yaml": _config(engine, shared),
        "environment": _environment(engine, shared),
        "run": _run(engine, shared, directory, publish),
        "release.json": _receipt(engine, shared, publish),
    }
    identity = _identity(files)
    said = {key: plan[key] for key in _PLAN_KEYS if key in plan}
    files[_PLAN] = json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return {
        "name": name,
        "served_name": instance["name"],
        "adapters": adapter_names(instance),
        "id": identity,
        "directory": directory.replace(_ID, identity),
        "files": {file: text.replace(_ID, identity) for file, text in files.items()},
        "publish": publish,
        "port": port,
        "unit": f"vllm@{name}.service",
        "container": f"vllm-{name}",
        "image": shared.image,
        "url": _url(shared.listen_address, port),
        "prediction": {
            key: plan.get(key) for key in ("memory_gib", "kv_tokens", "max_concurrency")
        },
    }


@dataclass(frozen=True)
class _Engine:
    """One process to run: an instance, its plan, and which of its replicas this is."""

    instance: Mapping[str, Any]
    plan: Mapping[str, Any]
    replica: int

    @property
    def name(self) -> str:
        return replica_name(self.instance["name"], self.replica)

    @property
    def port(self) -> int:
        return port_of(self.instance) + self.replica - 1

    @property
    def devices(self) -> list[str]:
        """CDI names of its GPUs."""
        planned = self.plan.get("devices")
        if planned is None:
            return gpu_devices(self.instance.get("gpus", "all")) or []
        return list(planned[self.replica - 1])

    @property
    def cpuset(self) -> Mapping[str, str] | None:
        """Processors and memory of the NUMA node that its GPUs are at, where they are at one."""
        planned = self.plan.get("cpusets")
        found: Mapping[str, str] | None = planned[self.replica - 1] if planned else None
        return found


def _unplanned(instance: Mapping[str, Any], release: str) -> Mapping[str, Any]:
    """Imported when it is needed: Ansible compiles collections anew in every worker."""
    from ansible_collections.baremetal.vllm.plugins.plugin_utils import _instance_plans

    return _instance_plans.unplanned(instance, release)


def _refuse_invalid(instance: Mapping[str, Any], release: str) -> None:
    checks = (
        ("options", check_options(instance.get("options", {}), release)),
        ("env", check_environment(instance.get("env", {}), release)),
    )
    for group, problems in checks:
        for key, problem in problems.items():
            raise ValueError(f"instance {instance['name']}: {group}.{key} {problem}")
    if gpu_devices(instance.get("gpus", "all")) is None:
        raise ValueError(
            f"instance {instance['name']}: gpus is {instance['gpus']!r}; it must be all, none, a"
            " count from 1, or a list of different indices or UUIDs."
        )


def _identity(files: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name]}\0".encode())
    return digest.hexdigest()[:_ID_LENGTH]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _url(address: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104
    return f"http://{_bracketed(reachable)}:{port}"


def _own_flags(instance: Mapping[str, Any], shared: Settings) -> dict[str, Any]:
    """The flags that the collection sets, in the order in which a reader looks for them."""
    flags: dict[str, Any] = {"model": _MODEL}
    flags["served-model-name"] = instance["name"]
    flags["host"] = "0.0.0.0"  # noqa: S104 - of the container; the host publishes one address
    flags["port"] = _PORT
    length = instance.get("max_model_len", "auto")
    if length != "auto":
        flags["max-model-len"] = int(length)
    flags["shutdown-timeout"] = shared.shutdown_timeout
    flags["sse-keep-alive-interval"] = _SSE_KEEP_ALIVE
    flags["disable-fastapi-docs"] = True
    known = catalogue()
    return {name: value for name, value in flags.items() if known.has_flag(name, shared.release)}


def _config(engine: _Engine, shared: Settings) -> str:
    options = normalise(engine.instance.get("options", {}))
    flags = _own_flags(engine.instance, shared)
    flags |= {name: value for name, value in engine.plan["flags"].items() if name not in options}
    # Sorted, so that the order in which a person writes them makes no other release.
    flags |= {name: options[name] for name in sorted(options)}
    lines: dict[str, Any] = {}
    for name, value in flags.items():
        key, written = _as_vllm_reads(name, value, shared.release)
        if key:
            lines[key] = written
    text: str = yaml.safe_dump(
        lines, sort_keys=False, default_flow_style=False, allow_unicode=True, width=10_000
    )
    return (
        f"# Managed by Ansible (baremetal.vllm): flags of the vLLM instance {engine.name}.\n"
        f"# Change vllm_instances in the inventory instead; this release is {_ID}.\n{text}"
    )


def _as_vllm_reads(name: str, value: Any, release: str) -> tuple[str, Any]:
    """A flag as a line of vLLM's configuration file; an empty name leaves it out.

    The file becomes a command line. ``key: false`` is dropped there up to 0.27.1, hence
    ``no-key: true``; dictionaries become JSON only from 0.16.0, and in lists in no release.
    """
    if value is None:
        return "", None
    if value is False:
        flag = catalogue().flags.get(name)
        without_negation = flag is not None and "switch" in flag.kinds
        return ("", None) if without_negation else (f"no-{name}", True)
    if isinstance(value, Mapping):
        return name, dict(value) if version(release) >= (0, 16) else _json(value)
    if isinstance(value, list):
        return name, [_json(item) if isinstance(item, (Mapping, list)) else item for item in value]
    return name, value


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _environment(engine: _Engine, shared: Settings) -> str:
    """Docker's ``--env-file``: a name, an equals sign and the value as it is, without quotes."""
    instance = engine.instance
    variables = {str(name): str(value) for name, value in engine.plan["env"].items()}
    # The role's own variables say the same of some, and a person may have set them.
    variables |= {
        "CUDA_CACHE_PATH": f"{_CACHE}/nv",
        "DO_NOT_TRACK": "1",
        "FLASHINFER_WORKSPACE_BASE": _HOME,  # FlashInfer appends .cache/flashinfer
        "HF_HOME": f"{_CACHE}/huggingface",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Weights are staged and verified; vLLM would ask the hub even for what it has.
        "HF_HUB_OFFLINE": "1",
        "HOME": _HOME,
        "TORCHINDUCTOR_CACHE_DIR": f"{_CACHE}/torchinductor",
        "TRITON_CACHE_DIR": f"{_CACHE}/triton",
        "USER": "vllm",  # PyTorch asks for a name, and the user id may have none in the image
        "VLLM_CACHE_ROOT": f"{_CACHE}/vllm",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(shared.http_keep_alive),
        "VLLM_LOGGING_LEVEL": shared.log_level,
        "VLLM_NO_USAGE_STATS": "1",
        "XDG_CACHE_HOME": _CACHE,
        "XDG_CONFIG_HOME": f"{_CACHE}/config",
    }
    timeout = catalogue().variables[_READY_TIMEOUT]
    if not catalogue().absence(timeout, shared.release):
        # vLLM's own 600 s end a start from a slow disk that would have come up.
        variables[_READY_TIMEOUT] = str(shared.ready_timeout)
    variables |= {name: str(value) for name, value in instance.get("env", {}).items()}
    lines = "".join(f"{name}={variables[name]}\n" for name in sorted(variables))
    return f"# Managed by Ansible (baremetal.vllm). Secrets are in a file of their own.\n{lines}"


def _run(engine: _Engine, shared: Settings, directory: str, publish: str) -> str:
    instance, name = engine.instance, engine.name
    secrets = shared.secrets_file or f"{shared.config_directory}/{name}.secrets"
    state = shared.state_directory
    arguments = [
        ("--rm",),
        ("--name", f"vllm-{name}"),
        ("--label", f"baremetal.vllm.instance={name}"),
        ("--label", f"baremetal.vllm.release={_ID}"),
        ("--pull", "never"),
        # The journal has the output already: it is this process's own.
        ("--log-driver", "none"),
        ("--network", "bridge"),
        ("--publish", f"{publish}:{_PORT}"),
        ("--read-only",),
        # Triton and PyTorch compile there and load the result, so it must allow execution.
        ("--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777,size=8g"),  # noqa: S108
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--user", shared.container_user),
        ("--shm-size", f"{shared.shm_size_gib}g"),
        ("--stop-timeout", str(shared.shutdown_timeout + _STOP_MARGIN)),
        ("--env-file", f"{directory}/environment"),
        ("--env-file", secrets),
        ("--mount", _mount(f"{directory}/config.yaml", _CONFIG, readonly=True)),
        ("--mount", _mount(f"{state}/{name}/cache", _CACHE)),
    ]
    mounted = {_MODEL: instance["model"]}
    mounted |= {f"{_EXTRA}/{key}": each for key, each in extra_models(instance).items()}
    for target, model in mounted.items():
        source = _directory(model, instance, shared)
        arguments.append(("--mount", _mount(source, target, readonly=True)))
    arguments += [("--device", f"nvidia.com/gpu={device}") for device in engine.devices]
    if shared.numa_pinning and engine.cpuset:
        near = engine.cpuset
        arguments.append(("--cpuset-cpus", near["cpus"], "--cpuset-mems", near["mems"]))
    arguments += [(shared.image,), ("--config", _CONFIG)]
    head = f"#!/bin/sh\n# Managed by Ansible (baremetal.vllm): runs the vLLM instance {name}.\n"
    lines = ["exec /usr/bin/docker run", *(shlex.join(argument) for argument in arguments)]
    return head + " \\\n  ".join(lines) + "\n"


def _directory(model: str, instance: Mapping[str, Any], shared: Settings) -> str:
    """Where a model of the instance is on the host."""
    if is_local(model):
        return model
    if model not in shared.models:
        raise ValueError(
            f"instance {instance['name']}: {model} is not among the models of the host; the role"
            " preflight finds out which commit it is, run that first."
        )
    return str(shared.models[model]["directory"])


def _mount(source: str, target: str, readonly: bool = False) -> str:
    """A bind mount; unlike ``--volume`` it fails where the source is missing."""
    return f"type=bind,source={source},target={target}" + (",readonly" if readonly else "")


def _receipt(engine: _Engine, shared: Settings, publish: str) -> str:
    receipt = {
        "id": _ID,
        "image": shared.image,
        "model": engine.instance["model"],
        "name": engine.name,
        "publish": publish,
        "vllm_release": shared.release,
    }
    if not is_local(engine.instance["model"]):
        receipt["commit"] = shared.models[engine.instance["model"]]["commit"]
    copies = [_directory(model, engine.instance, shared) for model in models_of(engine.instance)]
    if copies:
        receipt["weights"] = copies
    if engine.replica > 1:
        receipt["replica_of"] = engine.instance["name"]
    if shared.reference:
        receipt["reference"] = shared.reference
    if shared.secrets_digest:
        receipt["secrets_digest"] = shared.secrets_digest
    return json.dumps(receipt, indent=2, sort_keys=True) + "\n"
