# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The engine image in the lab's registry, found there by the hash of its inputs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from . import image
from .commands import LabError, run

DEFAULT = "127.0.0.1:5055"
REPOSITORY = "vllm/vllm-openai-cpu"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DIGEST_FILE = image.CACHE / "image-digest.json"


def _hashed_tag() -> str:
    return f"{image.RELEASE}-{image.content_hash()}"


def digest(registry: str = DEFAULT) -> str | None:
    """`sha256:...` of the image built from these inputs, None if the registry lacks it."""
    request = urllib.request.Request(
        f"http://{registry}/v2/{REPOSITORY}/manifests/{_hashed_tag()}",
        headers={"Accept": MANIFEST},
        method="HEAD",
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(response.headers["Docker-Content-Digest"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise LabError(f"the registry {registry} answered {error.code}: look at its log") from error
    except OSError as error:
        raise LabError(f"no registry answers at {registry}: start the lab's ({error})") from error


def push(registry: str = DEFAULT) -> str:
    """The digest; builds and pushes only what the registry lacks. Raises LabError.

    The tags are the release, which a person reads, and release-hash, which says what it was
    built from. Once pushed, the local image is not needed any more to answer this again.
    """
    found = digest(registry)
    if found is None:
        local = image.build()
        for tag in (image.RELEASE, _hashed_tag()):
            remote = f"{registry}/{REPOSITORY}:{tag}"
            run("docker", "tag", local, remote)
            run("docker", "push", "--quiet", remote)
            run("docker", "image", "rm", remote)  # the name only, `local` stays
        found = digest(registry)
        if found is None:
            raise LabError(f"{registry} took the image and lost it: look at the registry's log")
    image.CACHE.mkdir(parents=True, exist_ok=True)
    reference = f"{REPOSITORY}@{found}"
    DIGEST_FILE.write_text(json.dumps({"reference": reference, "digest": found}) + "\n")
    return found
