#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: model_seed
short_description: Serve the models of a host to the hosts that lack them
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Serves the complete models of a store over HTTP, so that one host fetches them over the uplink
    and the others fetch them from it. What has no manifest, or differs from it in size, is not
    served.
  - The server is a container of the vLLM image, called C(vllm-seed), without privileges and with
    the store mounted read-only. It tells nothing to those who do not know the key.
  - It is meant for the time in which other hosts fetch, ends by itself after O(timeout), and leaves
    nothing behind. One that an earlier run has left is replaced.
  - A file is C(http://<address>:<port>/<org>--<name>/<commit>/<path>?<key>). Ranges are answered,
    so what was cut can be continued.
attributes:
  check_mode:
    support: full
    description: Does nothing.
  diff_mode:
    support: none
    description: Nothing is changed on the host.
  idempotent:
    support: full
    description: Reports no change, since what it starts does not outlive the run.
options:
  state:
    description: Whether to begin to serve or to end it.
    type: str
    choices: [started, stopped]
    default: started
  store:
    description: Directory of the models. Needed for O(state=started), as all that follows.
    type: path
  image:
    description: The image of vLLM, by tag or digest. It must be on the host.
    type: str
  container_user:
    description: Numbers of user and group that the server runs as.
    type: str
    default: "2000:0"
  address:
    description: The host's own address that others reach. It listens on no other.
    type: str
  port:
    description: The port on O(address).
    type: int
    default: 8790
  key:
    description:
      - What a client has to know, of letters and digits. Make a new one for every run.
      - It reaches the container by its standard input, so neither C(ps) nor C(docker inspect) shows
        it.
    type: str
  timeout:
    description: Seconds after which the server ends by itself.
    type: int
    default: 21600
seealso:
  - plugin: baremetal.vllm.model_from_seed
    plugin_type: filter
  - plugin: baremetal.vllm.model_spread
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Have the other hosts fetch from this one
  when: inventory_hostname == 'gpu1'
  block:
    - name: Serve the models
      baremetal.vllm.model_seed:
        store: /var/lib/vllm/models
        image: docker.io/vllm/vllm-openai@sha256:{{ digest }}
        address: 192.0.2.11
        key: "{{ key_of_this_run }}"
  always:
    - name: Serve no longer
      baremetal.vllm.model_seed:
        state: stopped
"""

RETURN = r"""
files:
  description: How many files are served.
  returned: with O(state=started), not in check mode
  type: int
  sample: 14
bytes:
  description: Their size in bytes.
  returned: with O(state=started), not in check mode
  type: int
  sample: 13789231104
"""

import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._model_seed import (
    Seed,
    SeedError,
    start,
    stop,
)

_KEY = re.compile(r"[A-Za-z0-9]{32,}\Z")


def main() -> None:
    needed = ("store", "image", "address", "key")
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "store": {"type": "path"},
            "image": {"type": "str"},
            "container_user": {"type": "str", "default": "2000:0"},
            "address": {"type": "str"},
            "port": {"type": "int", "default": 8790},
            "key": {"type": "str", "no_log": True},
            "timeout": {"type": "int", "default": 21600},
        },
        required_if=[("state", "started", needed)],
        supports_check_mode=True,
    )
    given = dict(module.params)
    if given["timeout"] < 1:
        module.fail_json(
            msg=f"timeout: {given['timeout']} is no time to serve for; allowed are whole seconds "
            "from 1."
        )
    if given["state"] == "started" and not _KEY.match(given["key"]):
        module.fail_json(msg="key: allowed are at least 32 letters and digits, drawn for this run.")
    if module.check_mode:
        module.exit_json(changed=False)
    try:
        if given["state"] == "stopped":
            stop()
            module.exit_json(changed=False)
        seed = Seed(
            store=given["store"],
            image=given["image"],
            user=given["container_user"],
            address=given["address"],
            port=given["port"],
            seconds=given["timeout"],
            key=given["key"],
        )
        module.exit_json(changed=False, **start(seed))
    except SeedError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
