#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: image_load
short_description: Load a container image from a directory into the Docker Engine
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Loads an image that C(playbooks/bundle.yml) has written, for hosts that reach no registry.
  - Every blob is verified against its digest before any is sent, and the image is verified to be
    the one that was asked for after the engine has it.
  - The image gets a name of this host, the repository below C(localhost) with the 64 hex digits of
    the digest as its tag. One that M(baremetal.vllm.image_pull) has pulled carries it too, so that
    the same name runs both. A reference by digest does not find a loaded image in Docker's classic
    store.
  - An image that the engine already has, loaded or pulled, is left alone but for that name, and the
    directory is not read.
  - Talks to the engine's Unix socket and needs nothing on the host but Python. While the engine
    loads an image it needs room for it twice.
attributes:
  check_mode:
    support: full
    description:
      - Says whether the image would be loaded or named; the directory is not read. An engine that
        does not answer is taken as one that is still to be installed, so it would be loaded.
  diff_mode:
    support: none
    description: An image has no content that a diff could show.
  idempotent:
    support: full
    description: An image that is present and has its local name is left as it is.
options:
  image:
    description:
      - The image, as C(repository@sha256:digest) or C(repository:tag@sha256:digest).
      - The digest is that of an index or of the manifest of this host's architecture.
    type: str
    required: true
  directory:
    description:
      - A directory of this host with the image as an OCI image layout.
    type: path
    required: true
  socket:
    description: The engine's Unix socket.
    type: path
    default: /var/run/docker.sock
  timeout:
    description: How long the engine may take to load it, in seconds.
    type: int
    default: 3600
seealso:
  - module: baremetal.vllm.bundle
  - module: baremetal.vllm.image_pull
"""

EXAMPLES = r"""
- name: Load the image of vLLM
  baremetal.vllm.image_load:
    image: docker.io/vllm/vllm-openai@sha256:{{ digest }}
    directory: /var/lib/vllm-image
"""

RETURN = r"""
id:
  description: The image's id. Empty in check mode when the image is absent.
  returned: success
  type: str
  sample: sha256:3f57d9401f8d42f986df300f0c69192fc41da28ccc8d797829467780db3dd741
digest:
  description: The reference that names this image in its registry for ever.
  returned: success
  type: str
  sample: >-
    docker.io/vllm/vllm-openai@sha256:9b0bbcb2d2f8a9a1e2cd5f6b2c7d4a5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c
local:
  description: The name by which the image runs on this host.
  returned: success
  type: str
  sample: >-
    localhost/vllm/vllm-openai:9b0bbcb2d2f8a9a1e2cd5f6b2c7d4a5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c
size_bytes:
  description: The image's size on disk in bytes, unpacked. Zero in check mode when it is absent.
  returned: success
  type: int
  sample: 4294967296
elapsed:
  description: How long the module took, in seconds.
  returned: success
  type: float
  sample: 61.7
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import (
    DockerAPI,
    DockerUnavailable,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_load import (
    ImageLoader,
    LoadError,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_pull import (
    Image,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
)


def _ensure_present(
    loader: ImageLoader, reference: Reference, timeout: float, check_mode: bool
) -> dict[str, t.Any]:
    """Return the module's result without its duration. Raises LoadError, DockerUnavailable."""
    try:
        image = loader.present()
    except DockerUnavailable:
        if not check_mode:
            raise
        image = None
    changed = image is None or not image.named
    if not check_mode:
        if image is None:
            image = loader.load(timeout)
        elif not image.named:
            loader.name(image)
    image = image or Image(id="", digest=reference.name, size_bytes=0)
    return {
        "changed": changed,
        "id": image.id,
        "digest": image.digest,
        "local": reference.local,
        "size_bytes": image.size_bytes,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "socket": {"type": "path", "default": "/var/run/docker.sock"},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    start = time.monotonic()
    timeout = module.params["timeout"]
    if timeout < 1:
        module.fail_json(
            msg=f"timeout: {timeout} is no time to load an image in; allowed are whole seconds "
            "from 1."
        )
    try:
        reference = Reference.parse(module.params["image"])
    except PullError as error:
        module.fail_json(msg=str(error))
    if not reference.digest:
        module.fail_json(
            msg=f"image: {reference.text} has no digest, by which alone it can be verified; give "
            "repository@sha256:<64 hex digits>, as playbooks/pin.yml writes it."
        )
    loader = ImageLoader(DockerAPI(module.params["socket"]), reference, module.params["directory"])
    try:
        result = _ensure_present(loader, reference, timeout, module.check_mode)
    except LoadError as error:
        module.fail_json(msg=str(error))
    except DockerUnavailable as error:
        module.fail_json(
            msg=f"Image {reference.short} cannot be loaded because Docker is not running on this "
            f"host; start it with `systemctl start docker` and read its log: {error}."
        )
    module.exit_json(elapsed=round(time.monotonic() - start, 1), **result)


if __name__ == "__main__":
    main()
