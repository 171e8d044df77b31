# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Documentation of an action plugin; see plugins/action/validate_host.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_host
short_description: Check that a host can do what the inventory asks
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Holds what the inventory asks against what M(baremetal.vllm.host_state) has read, on the
    controller. It fails with one sentence for each problem, all of them at once.
  - Plans every instance on the way, and fails with the sentence of what cannot be, such as too
    little memory on the GPUs.
  - Checked are the distribution, systemd, GPUs on the PCI bus, model directories, ports and free
    disk space.
options:
  host_state:
    description: C(host_state) as M(baremetal.vllm.host_state) returns it.
    type: dict
    required: true
  instances:
    description: Entries of C(vllm_instances) that this host runs; absent ones are passed over.
    type: list
    elements: dict
    default: []
  gpu_info:
    description:
      - The fact of that name, from M(baremetal.vllm.gpu_info). Needed where an instance wants GPUs.
    type: dict
  provision:
    description:
      - Whether driver, Docker Engine, container toolkit and tuning are held against the variables
        of their roles. V(before) lets pass what those roles are going to bring, V(after) refuses
        what they have not brought.
    type: str
    choices: ['no', before, after]
    default: 'no'
  gpu_host:
    description: Whether engines may run on this host. An edge alone needs neither GPU nor Docker.
    type: bool
    default: true
  bundle:
    description:
      - The bundle that packages come from, a directory on the controller; empty for none. With one,
        no vendor's repository is wanted, versions are the same, and what the bundle lacks for this
        host is a problem.
    type: path
    default: ""
    version_added: 0.3.0
  vllm_release:
    description: vLLM release that instances are planned for; empty plans none.
    type: str
    default: ""
  shutdown_timeout:
    description: Seconds that running requests get when an engine is stopped.
    type: int
    default: 60
  ports:
    description: Further ports that will be listened on.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: TCP port.
        type: int
        required: true
      what:
        description: What wants it, as a sentence names it; for example C(edge_port).
        type: str
        required: true
  models:
    description:
      - Models of the instances and how they are asked for, as the result C(models) of
        M(baremetal.vllm.validate_inventory) has them.
    type: dict
    default: {}
  listings:
    description:
      - What the source says of those that the host lacks, by what was asked, as
        M(baremetal.vllm.model_source) returns it.
    type: dict
    default: {}
  models_directory:
    description: The host's directory of models; needed where O(models) has any.
    type: path
    default: ""
  own_ports:
    description: Ports on which services of this collection listen already.
    type: list
    elements: int
    default: []
  certificate:
    description:
      - What the edge serves TLS with; unset where this host has no edge with TLS.
      - Refused are certificates of the operator that cannot be read, whose key is another one's,
        that have expired or do not hold yet, that lack a name, and that systemd hides from nginx.
        One that expires within 14 days, or a quarter of its time if that is less, is a warning.
    type: dict
    suboptions:
      tls:
        description: C(edge_tls) of the role C(edge).
        type: str
        required: true
      certificate:
        description: Its path, a key of C(certificates) in O(host_state).
        type: path
        required: true
      names:
        description: Names and addresses under which clients ask; C(edge_server_names).
        type: list
        elements: str
        default: []
      authority:
        description: C(edge_acme_ca), a key of C(paths) in O(host_state); empty for none.
        type: str
        default: ""
    version_added: 0.3.0
  edge_models:
    description:
      - Names of the models behind the edge of this host; empty where it is no edge. Several are
        refused where the distribution lacks the njs module, which tells them apart.
    type: list
    elements: str
    default: []
    version_added: 0.3.0
  edge_vip:
    description:
      - The virtual address that this host may come to hold; unset where it is none of those hosts.
      - Refused are the host's own address, one that none of its networks has, and a keepalived with
        a configuration that is not of this collection.
      - Needs C(/proc/net/route) among C(read), and keepalived's configuration and drop-in among
        C(paths) of O(host_state).
    type: dict
    suboptions:
      address:
        description: C(edge_vip_address) of the role C(edge_vip).
        type: str
        required: true
      interface:
        description: C(edge_vip_interface); empty finds the one of the network that has the address.
        type: str
        default: ""
    version_added: 0.3.0
  disk_needs:
    description: Free space that is needed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A key of C(disks) in O(host_state).
        type: path
        required: true
      need_gib:
        description: Free space in GiB.
        type: float
        required: true
      what:
        description: What needs it, as a sentence names it.
        type: str
        required: true
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
seealso:
  - module: baremetal.vllm.validate_inventory
"""

EXAMPLES = r"""
- name: Check this host
  baremetal.vllm.validate_host:
    host_state: "{{ __preflight_host_state.host_state }}"
    instances: "{{ vllm_instances }}"
    gpu_info: "{{ ansible_facts['gpu_info'] }}"
    vllm_release: "{{ vllm_release }}"
    ports:
      - port: "{{ edge_port }}"
        what: edge_port
    disk_needs:
      - path: /var/lib/docker
        need_gib: 40
        what: the image
"""

RETURN = r"""
plans:
  description:
    - Plan by instance. C(flags), C(env), C(tensor_parallel_size), C(replicas), C(memory_gib),
      C(kv_tokens), C(max_concurrency) and C(reasons) are as in C(plan.json) of a release. The
      values of the instance's own C(env) are not among them.
    - C(devices) has the CDI names of the GPUs for each replica. C(in_use) is a sentence where
      others leave too little memory for the instance to start, with what to do; else empty.
  returned: success
  type: dict
  sample:
    gpt-oss-20b:
      flags: {tensor-parallel-size: 1}
      env: {}
      tensor_parallel_size: 1
      replicas: 1
      memory_gib:
        total: 139.8
        weights: 13.03
        activation: 2.87
        cuda_graphs: 0.58
        other: 0.23
        kv: 111.94
        kv_restart: 111.94
      kv_tokens: 4341729
      max_concurrency: 33.12
      reasons: []
      devices: [[GPU-8a56a4bc-b184-a047-2620-be19ba913c3d]]
      in_use: ""
models:
  description:
    - For every key of O(models) the C(name), what was C(asked), the C(commit), the C(directory) on
      the host, whether anything is C(missing) there, C(bytes) of all files, and C(fetch_bytes) of
      what is still to come.
  returned: success
  type: dict
  sample:
    openai/gpt-oss-20b:
      name: openai/gpt-oss-20b
      asked: openai/gpt-oss-20b
      commit: 6cee5e81ee83917806bbde320786a8fb61efebee
      directory: /var/lib/vllm/models/openai--gpt-oss-20b/6cee5e81ee83917806bbde320786a8fb61efebee
      missing: true
      bytes: 13789231104
      fetch_bytes: 13789231104
planned:
  description: Whether instances could be planned; V(false) while their driver is still to come.
  returned: success
  type: bool
  sample: true
provision:
  description:
    - What O(provision) found, one key for each of C(driver), C(engine), C(toolkit) and C(tuning),
      with C(problems), C(notes), C(converged) and what its role needs to carry it out.
    - C(parts) are the keys of those that this host needs at all, C(needed) of those that are not as
      they shall be. C(in_turn) tells whether the host may reboot while it carries the streams of
      others.
  returned: success
  type: dict
  sample:
    engine: {problems: [], notes: [], converged: true}
    parts: [engine]
    needed: []
    in_turn: false
edge_vip_interface:
  description: Interface on which the host would hold the address of O(edge_vip); empty without.
  returned: success
  type: str
  sample: eth0
  version_added: 0.3.0
msg:
  description: How many problems there are, then one line for each.
  returned: failure
  type: str
  sample: |-
    1 problem in the host; nothing was changed:

    gpu-1: vllm_instances (gpt-oss-20b) wants port 8000, on which nginx listens (0.0.0.0); stop it
    or choose another port.
"""
