#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: image_pull
short_description: Pull a container image through the Docker Engine
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Pulls one image, named by tag or (better) by digest, and verifies that the engine then has
    exactly that image.
  - An image that the engine already has is left alone and the registry is not asked.
    By digest this compares the digest; by tag, any local image of that tag counts.
  - An image whose digest is known gets a further name, the repository below C(localhost) with the
    64 hex digits of the digest as its tag. One that M(baremetal.vllm.image_load) has loaded
    carries it too, so that the same name runs both.
  - Can write its progress to a file, from which M(baremetal.vllm.image_wait) draws a display
    while the pull runs in the background.
  - Talks to the engine's Unix socket and needs nothing on the host but Python.
attributes:
  check_mode:
    support: full
    description:
      - Says whether the image would be pulled or named. An engine that does not answer is taken as
        one that is still to be installed, so the image would be pulled.
  diff_mode:
    support: none
    description: An image has no content that a diff could show.
  idempotent:
    support: full
    description: An image that is present and has its local name is left as it is.
options:
  image:
    description:
      - The image, as C(repository:tag) or C(repository@sha256:digest).
      - With both a tag and a digest, the digest counts.
    type: str
    required: true
  state:
    description: Only V(present) can be asked for.
    type: str
    choices: [present]
    default: present
  socket:
    description: The engine's Unix socket.
    type: path
    default: /var/run/docker.sock
  timeout:
    description: How long the pull may take, in seconds.
    type: int
    default: 3600
  progress_file:
    description:
      - A file that holds the pull's status as JSON, replaced as a whole at most once a second.
      - Its keys are C(phase) (V(pulling), V(extracting), V(done) or V(failed)), C(layers_done),
        C(layers), C(current_bytes), C(total_bytes), C(total_is_final) and C(elapsed) in seconds.
        The engine tells the size of a layer only when its download begins, hence
        C(total_is_final).
      - Its directory must exist. Nothing is written when the image is present, nor in check mode.
    type: path
  refuse_moved_tag:
    description:
      - Of an image with a tag and a digest that is not there yet, ask the registry for the tag
        first, and fail if it names another digest. What is there already is not asked about.
    type: bool
    default: false
    version_added: 0.3.0
  username:
    description: User of the registry. Where it is empty, O(config_file) is looked into.
    type: str
    default: ""
    version_added: 0.3.0
  password:
    description: Password or token of O(username).
    type: str
    default: ""
    version_added: 0.3.0
  config_file:
    description:
      - The Docker client's configuration, from whose C(auths) the credentials for the image's
        registry are taken (user and password; credential helpers are not asked).
      - A file that does not exist means a pull without credentials.
    type: path
    default: /root/.docker/config.json
seealso:
  - module: baremetal.vllm.image_load
  - module: baremetal.vllm.image_wait
"""

EXAMPLES = r"""
- name: Pull the image of vLLM
  baremetal.vllm.image_pull:
    image: docker.io/vllm/vllm-openai@sha256:{{ digest }}

- name: Begin to pull the image in the background
  baremetal.vllm.image_pull:
    image: registry.example.com:5000/vllm-openai:v0.32.0
    timeout: 1800
    progress_file: /run/vllm-image.json
  async: 1860
  poll: 0
  register: pull

- name: Wait for the image, with a display
  baremetal.vllm.image_wait:
    job: "{{ pull.ansible_job_id }}"
    progress_file: /run/vllm-image.json
    image: registry.example.com:5000/vllm-openai:v0.32.0
    timeout: 1860
"""

RETURN = r"""
id:
  description: The image's id. Empty in check mode when the image is absent.
  returned: success
  type: str
  sample: sha256:3f57d9401f8d42f986df300f0c69192fc41da28ccc8d797829467780db3dd741
digest:
  description:
    - The reference that names this image in its registry for ever.
    - Empty for an image by tag that was built here and never pushed, and in check mode when the
      image is absent.
  returned: success
  type: str
  sample: >-
    docker.io/vllm/vllm-openai@sha256:9b0bbcb2d2f8a9a1e2cd5f6b2c7d4a5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c
local:
  description:
    - The name by which the image runs on this host.
    - Empty where RV(digest) is.
  returned: success
  type: str
  sample: >-
    localhost/vllm/vllm-openai:9b0bbcb2d2f8a9a1e2cd5f6b2c7d4a5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c
size_bytes:
  description: The image's size on disk in bytes, unpacked.
  returned: success
  type: int
  sample: 4294967296
downloaded_bytes:
  description: Bytes that this pull received, compressed. Zero for an image that was present.
  returned: success
  type: int
  sample: 2201170739
elapsed:
  description: How long the module took, in seconds.
  returned: success
  type: float
  sample: 34.2
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import (
    DockerAPI,
    DockerUnavailable,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_pull import (
    Image,
    ImagePuller,
    ProgressFile,
    credentials_of,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
)


def _no_answer(reference: Reference, error: DockerUnavailable) -> str:
    return (
        f"Image {reference.short} cannot be pulled because Docker is not running on this host; "
        f"start it with `systemctl start docker` and read its log: {error}."
    )


def _credentials(module: AnsibleModule, reference: Reference) -> tuple[str, str] | None:
    """Return the login that was given, or the one that is written on the host."""
    if module.params["username"]:
        return module.params["username"], module.params["password"] or ""
    return credentials_of(module.params["config_file"], reference.registry)


def _ensure_present(
    module: AnsibleModule, reference: Reference, api: DockerAPI
) -> dict[str, t.Any]:
    """Return the module's result without its duration. Raises PullError, DockerUnavailable."""
    puller = ImagePuller(api, reference)
    try:
        image = puller.present()
    except DockerUnavailable:
        if not module.check_mode:
            raise
        image = None
    changed = image is None
    if image is None:
        image = Image(id="", digest="", size_bytes=0)
        if not module.check_mode:
            credentials = _credentials(module, reference)
            if credentials:
                module.no_log_values.add(credentials[1])
            if module.params["refuse_moved_tag"]:
                puller.refuse_moved_tag(credentials)
            status_file = ProgressFile(module.params["progress_file"] or "")
            image = puller.pull(credentials, module.params["timeout"], status_file)
    if image.local and not image.named:
        changed = True
        if not module.check_mode:
            puller.name_locally(image)
    return {
        "changed": changed,
        "id": image.id,
        "digest": image.digest,
        "local": image.local,
        "size_bytes": image.size_bytes,
        "downloaded_bytes": puller.progress.downloaded_bytes,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present"], "default": "present"},
            "socket": {"type": "path", "default": "/var/run/docker.sock"},
            "timeout": {"type": "int", "default": 3600},
            "progress_file": {"type": "path"},
            "refuse_moved_tag": {"type": "bool", "default": False},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "config_file": {"type": "path", "default": "/root/.docker/config.json"},
        },
        supports_check_mode=True,
    )
    start = time.monotonic()
    if module.params["timeout"] < 1:
        module.fail_json(
            msg=f"timeout: {module.params['timeout']} is no time to pull an image in; "
            "allowed are whole seconds from 1."
        )
    try:
        reference = Reference.parse(module.params["image"])
    except PullError as error:
        module.fail_json(msg=str(error))
    api = DockerAPI(module.params["socket"])
    try:
        result = _ensure_present(module, reference, api)
    except PullError as error:
        module.fail_json(msg=str(error))
    except DockerUnavailable as error:
        module.fail_json(msg=_no_answer(reference, error))
    module.exit_json(elapsed=round(time.monotonic() - start, 1), **result)


if __name__ == "__main__":
    main()
