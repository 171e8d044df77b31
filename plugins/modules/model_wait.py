#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: model_wait
short_description: Wait for a model that is fetched in the background, with a display
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Waits for a M(baremetal.vllm.model_fetch) that was started with C(async) and C(poll=0),
    and prints a line for each host when the download has moved on.
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
    description: The O(baremetal.vllm.model_fetch#module:progress_file) of the download.
    type: path
    required: true
  model:
    description: The model, for the display and for messages.
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
  - module: baremetal.vllm.model_fetch
"""

EXAMPLES = r"""
- name: Begin to fetch the model
  baremetal.vllm.model_fetch:
    listing: "{{ source.listings[0] }}"
    image: "{{ vllm_image }}"
    timeout: 3600
    progress_file: /run/vllm-model.json
  async: 3900
  poll: 0
  register: fetch

- name: Wait for the model
  baremetal.vllm.model_wait:
    job: "{{ fetch.ansible_job_id | default('') }}"
    progress_file: /run/vllm-model.json
    model: openai/gpt-oss-20b
    timeout: 3900
# gpu1 | openai/gpt-oss-20b 3.21 of 12.80 GiB, 212 MiB/s, 46 s left
"""

RETURN = r"""
directory:
  description: Where the files are, as M(baremetal.vllm.model_fetch) returns it, like all values.
  returned: success
  type: str
  sample: /var/lib/vllm/models/openai--gpt-oss-20b/6cee5e81ee83917806bbde320786a8fb61efebee
commit:
  description: The commit.
  returned: success
  type: str
  sample: 6cee5e81ee83917806bbde320786a8fb61efebee
bytes:
  description: Bytes of all files of the listing.
  returned: success
  type: int
  sample: 13761300984
downloaded_bytes:
  description: Bytes that the download received.
  returned: success
  type: int
  sample: 13761300984
elapsed:
  description: How long the download took, in seconds.
  returned: success
  type: float
  sample: 98.3
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._job_reader import exit_with_job


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "job": {"type": "str", "required": True},
            "progress_file": {"type": "path", "required": True},
            "model": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 3600},
            "async_dir": {"type": "path", "default": "~/.ansible_async"},
        },
        supports_check_mode=True,
    )
    exit_with_job(module, f"fetches {module.params['model']}")


if __name__ == "__main__":
    main()
