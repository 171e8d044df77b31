# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Documentation of an action plugin; see plugins/action/image_source.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_source
short_description: Ask registries, or a bundle, how large images are
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Asks for the bytes that a host has to be sent for an image, which are its layers for one
    architecture, packed. No layer is fetched.
  - It runs on the controller and touches no host. Called with C(run_once), it asks for all hosts.
  - What cannot be asked is no failure. All questions together take at most 10 seconds; after that
    the size is not known, and RV(images[].problem) says why.
options:
  images:
    description: The images, each for one architecture. What is listed twice is asked for once.
    type: list
    elements: dict
    required: true
    suboptions:
      image:
        description: Reference with a tag or a digest.
        type: str
        required: true
      architecture:
        description: That of the host, as C(uname -m) says it, such as V(x86_64) or V(aarch64).
        type: str
        required: true
      bundle:
        description:
          - The bundle that the image comes from, a directory on the controller; no registry is
            asked then. Empty for none.
        type: path
        default: ""
      username:
        description:
          - User at the registry. Without one, O(registry_config) is looked into.
        type: str
        default: ""
      password:
        description: Password of that user.
        type: str
        default: ""
      ca:
        description:
          - Certificates, in PEM, of authorities that the registry is trusted by beside those of the
            system. O(ca_path) comes first.
        type: str
        default: ""
  registry_config:
    description:
      - Configuration of the Docker client on the controller, for credentials; C(docker login)
        writes it. Only its C(auths) are read, no credential helper is run.
    type: path
    default: ~/.docker/config.json
  insecure_registries:
    description:
      - Registries (C(host) or C(host:port)) whose certificate is not verified, and which are asked
        over plain HTTP if they do not speak TLS.
      - A registry on C(localhost) or C(127.0.0.1) may always speak plain HTTP.
    type: list
    elements: str
    default: []
  ca_path:
    description:
      - PEM file of authorities, or a directory of them, that registries are trusted by beside those
        of the system.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and report what it would report otherwise.
    support: full
  diff_mode:
    description: Returns what has changed.
    support: none
    details: It changes nothing.
  idempotent:
    description: Running it again changes nothing.
    support: full
notes:
  - Proxies are taken from the environment (C(https_proxy), C(no_proxy)).
  - Docker Hub may count the question towards its rate limit, as it does a pull.
seealso:
  - module: baremetal.vllm.image_pull
  - module: baremetal.vllm.model_source
"""

EXAMPLES = r"""
- name: Ask how large the image is
  baremetal.vllm.image_source:
    images:
      - image: docker.io/vllm/vllm-openai:v0.32.0
        architecture: x86_64
  run_once: true
  register: source

- name: Say how much there is to fetch
  ansible.builtin.debug:
    msg: "{{ source.images[0].bytes | default('an unknown number of', true) }} bytes"
"""

RETURN = r"""
images:
  description: What is known of each image, in the order of O(images).
  returned: success
  type: list
  elements: dict
  contains:
    image:
      description: The reference, as it was given.
      type: str
      sample: docker.io/vllm/vllm-openai:v0.32.0
    name:
      description: The same for messages, with its digest cut short.
      type: str
      sample: docker.io/vllm/vllm-openai:v0.32.0
    architecture:
      description: The architecture, as it was given.
      type: str
      sample: x86_64
    bytes:
      description: Bytes that are sent, each layer once. Null where they are not known.
      type: int
      sample: 9985798963
    problem:
      description: A sentence that says why they are not known; else empty.
      type: str
      sample: ""
"""
