# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Filter face of plugin_utils/_release.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.baremetal.vllm.plugins.plugin_utils._release import build
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import plain

DOCUMENTATION = r"""
name: vllm_release
short_description: Build the release of a vLLM instance
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Turns an entry of C(vllm_instances) into the files of its release directory and the id that
    their content gives it. The same input gives the same bytes.
options:
  _input:
    description: An entry of C(vllm_instances).
    type: dict
    required: true
  settings:
    description:
      - What the instances of a host share. C(release), C(image) (by digest) and C(listen_address)
        are required.
      - C(container_user), C(shm_size_gib), C(shutdown_timeout), C(http_keep_alive),
        C(ready_timeout), C(state_directory), C(config_directory), C(numa_pinning) and
        C(log_level) default to what the role's variables of the same names default to.
      - C(secrets_file) defaults to C(<config_directory>/<name>.secrets). C(secrets_digest) enters
        the release, so that a rotated secret makes a new one.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Work out the release of every instance
  ansible.builtin.set_fact:
    releases: "{{ vllm_instances | map('baremetal.vllm.vllm_release', settings) }}"
  vars:
    settings:
      release: "0.32.0"
      image: "registry.example/vllm@sha256:{{ digest }}"
      listen_address: 127.0.0.1
"""

RETURN = r"""
_value:
  description: The release.
  type: dict
  contains:
    name:
      description: Name of the instance.
      type: str
    id:
      description: First 12 hex digits of the SHA-256 over the files, without C(plan.json).
      type: str
    directory:
      description: Release directory on the host.
      type: str
    files:
      description:
        - File name to text for C(config.yaml), C(environment), C(run), C(release.json) and
          C(plan.json).
      type: dict
    publish:
      description: Address and port of the host.
      type: str
      sample: 127.0.0.1:8000
    unit:
      description: systemd unit.
      type: str
      sample: vllm@gpt-oss-20b.service
    container:
      description: Name of the container.
      type: str
      sample: vllm-gpt-oss-20b
    image:
      description: Image reference that runs.
      type: str
    url:
      description: URL of the engine on its host.
      type: str
      sample: http://127.0.0.1:8000
"""


def vllm_release(instance: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The release of an instance; see DOCUMENTATION."""
    if not isinstance(instance, Mapping) or not isinstance(settings, Mapping):
        raise AnsibleFilterError("vllm_release takes an instance and settings, two dictionaries.")
    try:
        return build(plain(instance), plain(settings))
    except ValueError as error:
        raise AnsibleFilterError(f"vllm_release: {error}") from error


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"vllm_release": vllm_release}
