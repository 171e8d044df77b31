#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: image_wait
short_description: Wait for an image that is pulled in the background, with a display
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Waits for a M(baremetal.vllm.image_pull) that was started with C(async) and C(poll=0),
    and prints a line for each host when the pull has moved on.
  - Each look costs one call on the host, which reads the job and the progress file together.
    The time between two looks grows from 0.3 to 3 seconds.
  - The files of a finished job are removed from the host.
  - This is an action plugin; the module of the same name is its reader on the host.
attributes:
  check_mode:
    support: full
    description: Skipped when there is no job to wait for.
  diff_mode:
    support: none
    description: Nothing is changed but by the job itself.
  action:
    description: The display is drawn by an action plugin of the same name, on the controller.
    support: full
options:
  job:
    description: The job's C(ansible_job_id). Empty when nothing was started.
    type: str
    required: true
  progress_file:
    description: The O(baremetal.vllm.image_pull#module:progress_file) of the pull.
    type: path
    required: true
  image:
    description: The image, for the display and for messages.
    type: str
    required: true
  timeout:
    description: How long to wait, in seconds.
    type: int
    default: 3600
  async_dir:
    description:
      - Where Ansible keeps its jobs on the host. The action fills in what the connection uses.
    type: path
    default: ~/.ansible_async
seealso:
  - module: baremetal.vllm.image_pull
"""

EXAMPLES = r"""
- name: Begin to pull the image
  baremetal.vllm.image_pull:
    image: "{{ vllm_image }}"
    timeout: "{{ vllm_pull_timeout }}"
    progress_file: /run/vllm-image.json
  async: "{{ vllm_pull_timeout + 60 }}"
  poll: 0
  register: pull

- name: Wait for the image
  baremetal.vllm.image_wait:
    job: "{{ pull.ansible_job_id | default('') }}"
    progress_file: /run/vllm-image.json
    image: "{{ vllm_image }}"
    timeout: "{{ vllm_pull_timeout + 60 }}"
# gpu1 | pulling vllm-openai@sha256:9b0bbcb2… 1.20 of 2.05 GiB, 3 of 5 layers, 23 s
"""

RETURN = r"""
id:
  description: The image's id, as M(baremetal.vllm.image_pull) returns it, like all of its values.
  returned: success
  type: str
  sample: sha256:3f57d9401f8d42f986df300f0c69192fc41da28ccc8d797829467780db3dd741
digest:
  description: The reference by digest.
  returned: success
  type: str
  sample: >-
    docker.io/vllm/vllm-openai@sha256:9b0bbcb2d2f8a9a1e2cd5f6b2c7d4a5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c
size_bytes:
  description: The image's size on disk in bytes, unpacked.
  returned: success
  type: int
  sample: 4294967296
downloaded_bytes:
  description: Bytes that the pull received, compressed.
  returned: success
  type: int
  sample: 2201170739
elapsed:
  description: How long the pull took, in seconds.
  returned: success
  type: float
  sample: 34.2
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._job_reader import exit_with_job


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "job": {"type": "str", "required": True},
            "progress_file": {"type": "path", "required": True},
            "image": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 3600},
            "async_dir": {"type": "path", "default": "~/.ansible_async"},
        },
        supports_check_mode=True,
    )
    exit_with_job(module, f"pulls image {module.params['image']}")


if __name__ == "__main__":
    main()
