# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""One entry of ``vllm_instances``, and the image that it runs."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import (
    canonical,
    catalogue,
    check_environment,
    check_options,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._specs import shown

if TYPE_CHECKING:
    from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Plan

DEFAULT_PORT = 8000

# A unit, a container, a directory and an upstream are named after it.
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9][\w./-]*)?", re.ASCII)
# docker run --mount reads its value as CSV: no commas, no quotes.
_DIRECTORY = re.compile(r"(/[\w.+@=-]+)+/?", re.ASCII)
_EXTRA_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
# Flags whose value, or whose key `model`, may be a Hugging Face id.
_NAME_MODELS = ("hf-config-path", "speculative-config", "tokenizer")
_GPU_UUID = re.compile(r"(GPU|MIG)-[0-9a-fA-F-]{8,}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_REPOSITORY = re.compile(
    r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+|[a-z0-9][a-z0-9._-]*"
)
_RELEASE_TAG = re.compile(r"v([0-9]+(?:\.[0-9]+)+)(?:-.*)?")


@dataclass
class HostPlans:
    """What was found for one host.

    :param plans: instance -> keys of plan.json, with ``devices`` (a list of CDI names for each
        replica; None for those that ``gpus`` names) and ``in_use`` (a sentence where others hold
        memory that it needs, else empty).
    :param planned: instance -> the plan itself, where there is one.
    :param problems: sentences of instances that cannot be.
    :param notes: sentences that an operator should read once.
    """

    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    planned: dict[str, Plan] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_present(instance: Mapping[str, Any]) -> bool:
    return bool(instance.get("state", "present") != "absent")


def is_local(model: str) -> bool:
    """Whether the model is a directory on the host rather than a Hugging Face id."""
    return model.startswith("/")


def extra_models(instance: Mapping[str, Any]) -> dict[str, str]:
    """Further models that an instance reads, by the name of their directory in its container."""
    return {str(key): str(model) for key, model in (instance.get("extra_models") or {}).items()}


def adapter_names(instance: Mapping[str, Any]) -> list[str]:
    """Names of its LoRA adapters, by which clients ask for them as for models.

    Of ``lora-modules``, whose entries vLLM reads as ``name=path`` or as JSON with a key ``name``
    (``LoRAParserAction`` in its ``cli_args.py``).
    """
    options = {canonical(str(key)): value for key, value in (instance.get("options") or {}).items()}
    entries = options.get("lora-modules") or []
    named = (_adapter_name(each) for each in (entries if isinstance(entries, list) else [entries]))
    return sorted({name for name in named if name})


def _adapter_name(entry: Any) -> str:
    if isinstance(entry, str) and entry.lstrip().startswith("{"):
        try:
            entry = json.loads(entry)
        except ValueError:
            return ""  # vLLM says so
    if isinstance(entry, Mapping):
        return str(entry.get("name") or "")
    name, equals, _path = str(entry).partition("=")
    return name if equals else ""


def models_of(instance: Mapping[str, Any]) -> list[str]:
    """All models of an instance that are no directories of the host."""
    named = [str(instance["model"]), *sorted(extra_models(instance).values())]
    return [model for model in dict.fromkeys(named) if not is_local(model)]


def split_model(model: str) -> tuple[str, str]:
    """Name and revision of a model that is no directory; empty where no revision is given."""
    name, _at, revision = model.partition("@")
    return name, revision


def port_of(instance: Mapping[str, Any]) -> int:
    port: int = instance.get("port", DEFAULT_PORT)
    return port


def replica_name(name: str, number: int) -> str:
    """Name of an instance's replica, from 1: unit, container and releases are called so."""
    return name if number == 1 else f"{name}-{number}"


def engines(
    instances: Iterable[Mapping[str, Any]], plans: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """``instance``, ``name`` and ``port`` of every engine: one for each replica."""
    return [
        {
            "instance": instance["name"],
            "name": replica_name(instance["name"], number),
            "port": port_of(instance) + number - 1,
        }
        for instance in instances
        if is_present(instance)
        for number in range(1, plans.get(instance["name"], {}).get("replicas", 1) + 1)
    ]


def gpu_devices(gpus: Any) -> list[str] | None:
    """``gpus`` as CDI device names, or None where it cannot be read.

    ``all`` -> ``["all"]``, ``none`` -> ``[]``, a count -> the first indices.
    """
    if gpus == "all":
        return ["all"]
    if gpus == "none":
        return []
    if isinstance(gpus, str) and gpus.isdecimal():
        gpus = int(gpus)
    if isinstance(gpus, int) and not isinstance(gpus, bool):
        return [str(index) for index in range(gpus)] if gpus > 0 else None
    if not isinstance(gpus, list) or not gpus:
        return None
    devices = [str(gpu) for gpu in gpus if not isinstance(gpu, bool)]
    readable = all(device.isdigit() or _GPU_UUID.fullmatch(device) for device in devices)
    return devices if readable and len(set(devices)) == len(gpus) else None


def check_instance(instance: Mapping[str, Any], release: str) -> list[str]:
    """What is wrong with an instance, each starting with the key: ``.port is 0; ...``.

    :param release: vLLM release that options are held against; empty leaves them unchecked.
    """
    name = instance.get("name")
    problems: list[str] = []
    if name is not None and not _NAME.fullmatch(name):
        problems.append(
            f".name is {shown(name)}; it must be 1 to 63 lower-case letters, digits, dots and"
            " dashes, a letter or a digit first."
        )
    if name == "models":
        problems.append(".name is 'models', which is the model cache's directory; choose another.")
    if not is_present(instance):
        return problems
    if "model" in instance:
        problems += _check_model(".model", instance["model"])
    for key, model in extra_models(instance).items():
        if not _EXTRA_NAME.fullmatch(key):
            problems.append(
                f".extra_models.{key} must be a name of letters, digits, dots, dashes and"
                " underscores: the directory /models/<name> in the container."
            )
        problems += _check_model(f".extra_models.{key}", model)
    problems += _check_offline(instance.get("options", {}))
    if not 1 <= port_of(instance) <= 65535:
        problems.append(f".port is {port_of(instance)}; allowed are 1 to 65535.")
    if gpu_devices(instance.get("gpus", "all")) is None:
        problems.append(
            f".gpus is {shown(instance['gpus'])}; it must be all, none, a count from 1, or a list"
            " of different indices or UUIDs (GPU-...)."
        )
    length = instance.get("max_model_len", "auto")
    if length != "auto" and not is_count(length):
        problems.append(f".max_model_len is {shown(length)}; it must be auto or a count of tokens.")
    given = [key for key in instance.get("options", {}) if canonical(str(key)) == "max-model-len"]
    if given and length != "auto":
        problems.append(
            f".options.{given[0]} says the same as max_model_len, which is {length}; keep one."
        )
    if release:
        for key, problem in check_options(instance.get("options", {}), release).items():
            problems.append(f".options.{key} {problem}")
        for key, problem in check_environment(instance.get("env", {}), release).items():
            problems.append(f".env.{key} {problem}")
    return problems


def is_count(value: Any) -> bool:
    """Whether it is a whole number from 1, or the text of one."""
    if isinstance(value, str):
        return value.isdecimal() and int(value) > 0
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_model(place: str, model: str) -> list[str]:
    pattern = _DIRECTORY if is_local(model) else _HUB_ID
    if pattern.fullmatch(model) and "/.." not in model:
        return []
    return [
        f"{place} is {shown(model)}; it must be a Hugging Face id (org/name or org/name@revision)"
        " or an absolute directory on the host without spaces, commas and quotes."
    ]


def _check_offline(options: Mapping[str, Any]) -> list[str]:
    """vLLM fetches nothing itself: what an option names must be in the container."""
    problems = []
    for key, value in options.items():
        name = canonical(str(key))
        if isinstance(value, str) and value.startswith("{"):
            with contextlib.suppress(ValueError):
                value = json.loads(value)
        given = value.get("model") if isinstance(value, Mapping) else value
        if name not in _NAME_MODELS or not isinstance(given, str) or not _HUB_ID.fullmatch(given):
            continue
        place = f"{key}.model" if isinstance(value, Mapping) else str(key)
        problems.append(
            f".options.{place} is {shown(given)}, which vLLM does not fetch itself; name it under"
            " extra_models, and here the directory /models/<name> that it has in the container."
        )
    return problems


def split_image(reference: str) -> tuple[str, str, str]:
    """Repository, tag and digest of an image reference; what is not there is empty."""
    rest, _at, digest = reference.partition("@")
    repository, colon, tag = rest.rpartition(":")
    # A colon before a slash belongs to the registry's port.
    if not colon or "/" in tag:
        return rest, "", digest
    return repository, tag, digest


def check_image(reference: str, release: str) -> str:
    """What is wrong with ``vllm_image``, to be said after its name; empty where nothing is."""
    repository, tag, digest = split_image(reference)
    given = f"is {shown(reference)}"
    if "@" in reference and not _DIGEST.fullmatch(digest):
        return f"{given}; a digest is sha256: and 64 lower-case hex digits, copy it in full."
    if not _REPOSITORY.fullmatch(repository) or (tag and not _TAG.fullmatch(tag)):
        return f"{given}, which is no image reference; write registry/repository:tag or @sha256:..."
    if not tag and not digest:
        return f"{given}, without tag or digest; add :v{release or '0.32.0'} or better @sha256:..."
    if tag == "latest" and not digest:
        return f"{given}; latest moves, pin a release or a digest."
    named = _RELEASE_TAG.fullmatch(tag)
    if named and named[1] in catalogue().releases and release and named[1] != release:
        return f"{given}, but flags are checked against vllm_release, {release}; make them one."
    return ""
