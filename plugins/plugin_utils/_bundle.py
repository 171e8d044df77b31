# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A bundle: one directory with all that a fleet without network needs.

bundle.json                        what is in it
SHA256SUMS                         of every other file, for ``sha256sum --check``
images/<hex of the digest>/        an OCI image layout that ``docker load`` reads, too
models/<org>--<name>/<commit>/     weights, with their manifest <commit>.json beside them
packages/<system>/                 .deb files and the index ``Packages``
wheels/                            nvidia-ml-py for the controller
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import split_image

FORMAT = 1
CONTENT = "bundle.json"
SUMS = "SHA256SUMS"
PARTS = ("images", "models", "packages", "wheels")
MARK = ".baremetal-vllm-bundle"
"""Made before anything else, and held by the run that writes: only below it is anything removed."""

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_CHUNK = 4 * 1024 * 1024
_WRITE = "write it with playbooks/bundle.yml, and this inventory"

Content = Mapping[str, Any]


class BundleError(Exception):
    """A bundle cannot be written or used; the text is one sentence for the operator."""


def image_part(digest: str) -> str:
    """Where the image of a digest (``sha256:...``) is within a bundle."""
    return f"images/{digest.partition(':')[2]}"


def packages_part(system: str) -> str:
    """Where the packages of a system such as ``debian-13`` are within a bundle."""
    return f"packages/{system}"


def system_of(platform: Mapping[str, Any]) -> str:
    """The name of a host's system in a bundle: ``debian-13``, ``ubuntu-24.04``."""
    name, version = str(platform["distribution"]), str(platform["distribution_version"])
    return f"{name.lower()}-{version if name == 'Ubuntu' else version.partition('.')[0]}"


# -- use -----------------------------------------------------------------------------------------


def read(directory: str) -> dict[str, Any]:
    """The content of a bundle.

    :raises BundleError: the directory is none.
    """
    file = Path(directory) / CONTENT
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"bundle_directory is {directory}, where this machine has no {CONTENT}; {_WRITE}."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise BundleError(f"{file} cannot be read ({reason}); {_WRITE}.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BundleError(
            f"{file} is of another format than {FORMAT}, which this collection reads; {_WRITE}."
        )
    return content


def lacking(
    directory: str, content: Content, images: Iterable[str], models: Iterable[str]
) -> list[str]:
    """What a host wants and the bundle has not, one sentence each.

    :param images: references with a digest.
    :param models: as the sources are asked for them.
    """
    known = {entry["digest"] for entry in content["images"]}
    problems = []
    for image in images:
        digest = split_image(image)[2]
        if not digest:
            problems.append(
                f"vllm_image {image} has no digest, by which a bundle knows it; pin it with"
                " playbooks/pin.yml, and write the bundle again."
            )
        elif digest not in known:
            problems.append(f"the bundle {directory} has no image {image}; {_WRITE}.")
    problems += [
        f"the bundle {directory} has no model {model}; {_WRITE}."
        for model in models
        if listing_of(content, model) is None
    ]
    return problems


def unfit(
    directory: str,
    content: Content,
    platform: Mapping[str, Any],
    plans: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Why a host cannot be provisioned from a bundle, one sentence each.

    :param platform: as host_state reads it.
    :param plans: part -> what ``_provision`` decided, with ``packages`` that are to be installed.
    """
    again = f"and write the bundle {directory} again with playbooks/bundle.yml"
    machine = _MACHINES[content["architecture"]]
    if platform["architecture"] != machine:
        return [
            f"the bundle {directory} is for {machine}, and this host is {platform['architecture']};"
            " write one of its own for such hosts (bundle_architecture)."
        ]
    system = system_of(platform)
    known = content["packages"].get(system)
    if known is None:
        return [
            f"the bundle {directory} has packages for {', '.join(content['packages'])}, and this"
            f" host is {system}; name it in bundle_systems, {again}."
        ]
    specs = [spec for plan in plans.values() for spec in plan.get("packages", [])]
    absent = [spec for spec in specs if not _has(known["packages"], spec)]
    if not absent:
        return []
    headers = any(spec.startswith("linux-headers-") for spec in absent)
    kernels = " name the host's kernel in bundle_kernels," if headers else ""
    return [
        f"the bundle {directory} has no {', '.join(absent)} for {system};{kernels} compare the"
        f" variables of the roles with those that it was written with, {again}."
    ]


def _has(packages: Mapping[str, Iterable[str]], spec: str) -> bool:
    """Whether a package is there; the version may have wildcards, as apt takes them."""
    name, _equals, version = spec.partition("=")
    return any(fnmatch.fnmatchcase(each, version or "*") for each in packages.get(name, ()))


def listing_of(content: Content, asked: str) -> dict[str, Any] | None:
    """The listing of a model as its source gave it; None where the bundle does not have it.

    :param asked: as a source is asked for it, at a branch, at a tag or at a commit.
    """
    for listing in content["models"]:
        if asked in (listing["asked"], f"{listing['model']}@{listing['commit']}"):
            return {**listing, "asked": asked}
    return None


# -- writing -------------------------------------------------------------------------------------


def write(directory: Path, content: Content, files: Mapping[str, str]) -> None:
    """Complete a bundle: bundle.json, the sums, and nothing of an earlier one.

    :param files: path within the bundle -> sha256, empty where the file has still to be read.
    :raises BundleError: the disk does not take it.
    """
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    try:
        for path in _files(directory):
            if path not in files:
                (directory / path).unlink()
        _remove_empty(directory)
        _replace(directory / CONTENT, text)
        sums = {path: known or sha256_of(directory / path) for path, known in files.items()}
        sums[CONTENT] = hashlib.sha256(text.encode()).hexdigest()
        lines = [f"{sums[path]}  {path}\n" for path in sorted(sums)]
        _replace(directory / SUMS, "".join(lines))
    except OSError as error:
        raise BundleError(
            f"{error.filename or directory} cannot be written ({error.strerror}); mend that and run"
            " again: what has arrived is kept."
        ) from None


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _files(directory: Path) -> list[str]:
    found = []
    for part in PARTS:
        for parent, _directories, names in os.walk(directory / part):
            found += [str((Path(parent) / name).relative_to(directory)) for name in names]
    return found


def _remove_empty(directory: Path) -> None:
    for part in PARTS:
        for parent, _directories, _names in os.walk(directory / part, topdown=False):
            if not os.listdir(parent):
                os.rmdir(parent)


def _replace(file: Path, text: str) -> None:
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
