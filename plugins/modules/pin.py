# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Documentation of an action plugin; see plugins/action/pin.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pin
short_description: Pin the inventory's image tags to digests and its models to commits
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Asks the registries which digest each tag in C(vllm_image) names, and the hub which commit each
    model in C(vllm_instances) names, for all hosts of the group C(gpu_hosts) at once.
  - Writes the answers as C(vllm_pins) into one file of the inventory, to be reviewed and committed.
    The same answers are the same bytes.
  - Prints a line for each pin that is new, has moved or is dropped.
  - It runs on the controller, once for the whole play, and touches no host. C(playbooks/pin.yml) is
    made of it.
  - Images with a digest, models with a commit, directories on the host and instances with
    C(state=absent) need no pin and get none. Pins of what no host has any more are dropped.
  - If anything cannot be resolved, nothing is written, and it fails with one sentence for each.
options:
  path:
    description:
      - File to write. C(group_vars/all/pins.yml) beside the inventory by default.
      - Required when the run has several inventories, or a list of hosts instead of one.
    type: path
  provider:
    description: Where models come from; only those of V(huggingface) can be pinned.
    type: str
    choices: [huggingface, modelscope, http, s3]
    default: huggingface
  model_endpoint:
    description: Address of a hub with the API of huggingface.co, which is the default.
    type: str
  model_token:
    description: Token of the hub, for models that not everyone may see.
    type: str
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
      - PEM file of authorities, or a directory of them, that registries and hub are trusted by
        beside those of the system.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and report what it would report otherwise.
    support: full
    details: It asks registries and hub, and writes nothing.
  diff_mode:
    description: Returns what has changed.
    support: full
  idempotent:
    description: Running it again changes nothing.
    support: full
    details: Unless a tag or a branch has moved meanwhile.
notes:
  - Proxies are taken from the environment (C(https_proxy), C(no_proxy)).
seealso:
  - module: baremetal.vllm.image_pull
"""

EXAMPLES = r"""
- name: Pin the images and models of the inventory
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Write group_vars/all/pins.yml beside the inventory
      baremetal.vllm.pin:
        model_token: "{{ model_store_token }}"
"""

RETURN = r"""
path:
  description: The file of pins.
  returned: success
  type: str
  sample: /srv/fleet/group_vars/all/pins.yml
vllm_pins:
  description: What is in it.
  returned: success
  type: dict
  sample:
    images:
      docker.io/vllm/vllm-openai:v0.32.0: sha256:1f0c53f9...
    models:
      openai/gpt-oss-20b: 6cee5e81ee83917806bbde320786a8fb61efebee
changes:
  description: What differs from the pins that were there.
  returned: success
  type: list
  elements: dict
  contains:
    what:
      description: Image reference or model, as the inventory has it.
      type: str
    kind:
      description: V(image) or V(model).
      type: str
    old:
      description: Digest or commit that was pinned; empty for one that was not.
      type: str
    new:
      description: Digest or commit that is pinned now; empty for one that was dropped.
      type: str
msg:
  description: How many problems there are, then one line for each.
  returned: failure
  type: str
  sample: |-
    1 problem in the images and models; nothing was changed:
    Registry docker.io has no tag v0.32.9 of vllm/vllm-openai; compare it with what was pushed, and
    correct vllm_image.
"""
