# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Documentation of an action plugin; see plugins/action/bundle.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: Write all that the inventory's hosts need into one directory
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Brings together on the controller what hosts without network need, images by digest, weights
    with their hashes, packages of the operating system with all that they depend on, and the wheel
    of nvidia-ml-py for the controller itself. What it is follows from the variables of all hosts in
    C(gpu_hosts) and C(edge_hosts), as for C(playbooks/site.yml).
  - It touches no host and needs neither root nor Docker, but apt, of Debian or Ubuntu.
    C(playbooks/bundle.yml) is made of it.
  - What is in the directory already is read, compared and kept; what nothing wants any more is
    removed. Downloads go on where they were cut off.
options:
  directory:
    description: Directory of the bundle, on the controller.
    type: path
    required: true
  systems:
    description: Operating systems of the hosts, such as V(debian-13) or V(ubuntu-24.04).
    type: list
    elements: str
    required: true
  architecture:
    description: Processors of the hosts.
    type: str
    choices: [amd64, arm64]
    default: amd64
  kernels:
    description:
      - Kernel releases of the hosts (C(uname -r)), for which the packages with their headers come
        along. Only the NVIDIA driver needs them.
    type: list
    elements: str
    default: []
  distribution_mirror:
    description: Address of a mirror of the distribution. Empty for its own.
    type: str
    default: ""
  listings:
    description: The models, as M(baremetal.vllm.model_source) returns them.
    type: list
    elements: dict
    default: []
  model_token:
    description: Token of the hub, for models that not everyone may see.
    type: str
    default: ""
  registry_config:
    description:
      - Configuration of the Docker client on the controller, for credentials of registries that the
        hosts' variables give no user for.
    type: path
    default: ~/.docker/config.json
  insecure_registries:
    description:
      - Registries (C(host) or C(host:port)) whose certificate is not verified, and which are asked
        over plain HTTP if they do not speak TLS.
    type: list
    elements: str
    default: []
  ca_path:
    description:
      - PEM file of authorities that registries and hub are trusted by beside those of the system.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and report what it would report otherwise.
    support: partial
    details: It checks the images' digests, fetches nothing, and says that it would.
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Running it again changes nothing.
    support: partial
    details: Nothing is fetched twice, but packages are those of the day.
notes:
  - Proxies are taken from the environment (C(https_proxy), C(no_proxy)), those of apt from its own
    configuration, too.
seealso:
  - module: baremetal.vllm.pin
  - module: baremetal.vllm.image_load
"""

EXAMPLES = r"""
- name: Write a bundle for a fleet of Debian 13
  baremetal.vllm.bundle:
    directory: /srv/bundle
    systems: [debian-13]
    listings: "{{ source.listings }}"
"""

RETURN = r"""
directory:
  description: The bundle.
  returned: success
  type: str
  sample: /srv/bundle
content:
  description: What C(bundle.json) says.
  returned: success
  type: dict
  contains:
    images:
      description: Reference, digest and bytes of each image.
      type: list
      elements: dict
    models:
      description: Model, commit, and files with size and SHA-256 of each model.
      type: list
      elements: dict
    packages:
      description: For each system the hash of its index, and the version of each package.
      type: dict
    wheels:
      description: Wheels for the controller.
      type: list
      elements: str
msg:
  description: One sentence for what cannot be had.
  returned: failure
  type: str
"""
