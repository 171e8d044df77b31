#!/usr/bin/python
# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Read the NVIDIA GPUs of a host and the state of their driver
version_added: 0.2.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Asks NVIDIA's management library (NVML) for everything that decides which engine can run on
    which GPU, and returns it as the fact C(gpu_info).
  - No GPU, no driver, a driver that does not match its libraries, a GPU that has fallen off the bus
    and a missing Python package are no failures. They are RV(ansible_facts.gpu_info.state) with a
    sentence in RV(ansible_facts.gpu_info.message).
  - The Python package C(nvidia-ml-py) is needed on the controller alone. Its one file is sent with
    the call of the module and nothing of it stays on the host, which needs no package index.
options:
  library:
    description:
      - The source of C(nvidia-ml-py), compressed with zlib and encoded with base64.
      - The action plugin fills it in from the controller. If that has no such package, the host's
        own is used.
      - It is no secret. It is marked as one so that its 67 kB are in no log and no output.
    type: str
    default: ''
attributes:
  check_mode:
    description: Reads the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show, as nothing changes.
    support: none
  facts:
    description: Returns the fact C(gpu_info).
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: linux
requirements:
  - nvidia-ml-py (on the controller)
"""

EXAMPLES = r"""
- name: Read the GPUs
  baremetal.vllm.gpu_info:

- name: Stop where the GPUs cannot be used, and say why
  ansible.builtin.assert:
    that: ansible_facts['gpu_info'].state == 'ok'
    fail_msg: "{{ ansible_facts['gpu_info'].message }}"
"""

RETURN = r"""
ansible_facts:
  description: Facts of the host.
  returned: success
  type: dict
  contains:
    gpu_info:
      description:
        - GPUs and driver. What NVML refuses to tell, or a GPU does not have, is null.
      type: dict
      contains:
        state:
          description:
            - V(ok) where every GPU answers.
            - V(no_gpu) where the host has none, or none that its driver may use.
            - V(no_driver) where there is a GPU, and no driver with its libraries for it.
            - V(mismatch) where libraries and kernel module are of different releases.
            - V(gpu_lost) where a GPU does not answer; the others are reported.
            - V(no_library) where the Python package C(nvidia-ml-py) is missing.
            - V(error) for all else that NVML refuses.
          type: str
          sample: ok
        message:
          description: What is wrong and what to do, in one sentence; empty for V(ok).
          type: str
          sample: ''
        driver_version:
          description: Version of the driver.
          type: str
          sample: 580.159.04
        cuda_driver_version:
          description: Newest CUDA that the driver supports.
          type: str
          sample: '13.0'
        nvml_version:
          description: Version of NVML, which is its CUDA release and that of the driver it is from.
          type: str
          sample: 13.580.159.04
        kernel_module_version:
          description: Version of the kernel module that is loaded.
          type: str
          sample: 580.159.04
        versions_match:
          description: Whether kernel module and libraries are of the same release.
          type: bool
          sample: true
        nvswitch:
          description: Whether GPUs are connected by NVSwitches.
          type: bool
          sample: true
        gpus:
          description:
            - GPUs in NVML's order, which is that of PCI ids. Of one with C(lost=true) nothing else
              is known than C(index), C(pci_bus_id) and C(message).
          type: list
          elements: dict
          contains:
            index:
              description: Index that NVML and nvidia-smi use; null for a GPU that NVML hides.
              type: int
              sample: 0
            uuid:
              description: UUID, which stays the same when indexes move.
              type: str
              sample: GPU-10000009-5a1d-4c1a-9d2e-000000000009
            pci_bus_id:
              description: PCI domain, bus, device and function.
              type: str
              sample: 00000000:19:00.0
            name:
              description: Name of the product.
              type: str
              sample: NVIDIA H100 80GB HBM3
            architecture:
              description: Name of the architecture; null for one that this release does not know.
              type: str
              sample: Hopper
            compute_capability:
              description: CUDA compute capability.
              type: str
              sample: '9.0'
            memory_total_bytes:
              description:
                - All memory. Null where the GPU has none of its own and shares that of the host.
              type: int
              sample: 85520809984
            memory_reserved_bytes:
              description: The part that driver and firmware keep; null below driver 510.
              type: int
              sample: 577765376
            memory_free_bytes:
              description: The part that nothing uses.
              type: int
              sample: 84943044608
            memory_used_bytes:
              description: The part that processes hold; below driver 510 with the reserved one.
              type: int
              sample: 0
            ecc:
              description:
                - Error correction. C(pending) is what it will be after a reset.
                  C(uncorrected_volatile) counts errors since the driver started,
                  C(uncorrected_aggregate) all.
              type: dict
              sample:
                supported: true
                enabled: true
                pending: true
                uncorrected_volatile: 0
                uncorrected_aggregate: 0
            remapped_rows:
              description:
                - Memory rows replaced by spare ones. C(pending) waits for a reset of the GPU,
                  C(failed) wants a new GPU. Null before Ampere and on consumer GPUs.
              type: dict
              sample: {correctable: 0, uncorrectable: 0, pending: false, failed: false}
            mig:
              description:
                - Multi-Instance GPU. Each of C(instances) has C(uuid), C(profile),
                  C(gpu_instance_id), C(compute_instance_id), C(processes) and the four sizes of
                  memory.
              type: dict
              sample: {supported: true, enabled: false, pending: false, instances: []}
            persistence_mode:
              description: Whether the driver stays initialised when no program uses the GPU.
              type: bool
              sample: true
            power_limit_watts:
              description: Power limit in force.
              type: float
              sample: 700.0
            power_limit_default_watts:
              description: Power limit that the GPU starts with.
              type: float
              sample: 700.0
            pcie:
              description:
                - PCIe generation and lanes, now and at most. An idle GPU lowers its generation.
              type: dict
              sample: {generation: 5, generation_max: 5, width: 16, width_max: 16}
            nvlink:
              description:
                - Number of active links, UUIDs of the GPUs at their other ends, and whether those
                  are reached through an NVSwitch.
              type: dict
              sample:
                active_links: 18
                peers: [GPU-1000000a-5a1d-4c1a-9d2e-00000000000a]
                nvswitch: true
            fabric:
              description:
                - How far the fabric manager has made the GPU part of the fabric of NVSwitches.
                  C(state) is V(not_started), V(in_progress) or V(completed), and C(status) then
                  NVML's number of what went wrong, V(0) for nothing.
                - Null where it is in no fabric, as behind NVSwitches that a host below manages.
              type: dict
              sample: {state: completed, status: 0}
            numa_node:
              description: NUMA node of the processors that are near.
              type: int
              sample: 0
            display_active:
              description: Whether a display is driven by it.
              type: bool
              sample: false
            processes:
              description:
                - Processes that hold its memory. C(container_id) is the id of the container of
                  Docker, containerd or Podman that the process runs in. C(name) is null for a
                  process in another PID namespace.
              type: list
              elements: dict
              sample:
                - pid: 4711
                  name: VLLM::EngineCor
                  memory_bytes: 76940312576
                  container_id: 8626f5a1d2c3b4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d
            lost:
              description: Whether it does not answer any more.
              type: bool
              sample: false
            message:
              description: One sentence where it is lost, else empty.
              type: str
              sample: ''
        lost_gpus:
          description:
            - The GPUs of C(gpus) that are lost. C(pci_bus_id) is null where the kernel, too, does
              not tell which it is.
          type: list
          elements: dict
          sample:
            - index: 1
              pci_bus_id: 00000000:3B:00.0
              message: 'GPU 1 (00000000:3B:00.0): GPU is lost.'
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml


def main() -> None:
    module = AnsibleModule(
        argument_spec={"library": {"type": "str", "no_log": True, "default": ""}},
        supports_check_mode=True,
    )
    gpu_info = _nvml.read(module.params["library"])
    module.exit_json(changed=False, ansible_facts={"gpu_info": gpu_info})


if __name__ == "__main__":
    main()
