#!/usr/bin/python
# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: host_state
short_description: Read all that the roles need to know of a host in one call
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Reads packages, systemd units, paths, images, containers, disks, ports and hardware, and changes
    nothing. One task takes the place of a dozen modules, which keeps a second run fast.
  - What does not exist yet is an answer, not an error, so it works on a host without Docker,
    without NVIDIA driver and without systemd.
options:
  packages:
    description:
      - Names of Debian packages, and shell globs such as V(nvidia-*), which stand for every
        installed package that they match.
    type: list
    elements: str
    default: []
  services:
    description: Names of systemd units; without a suffix, a service is meant.
    type: list
    elements: str
    default: []
  paths:
    description: Absolute paths to look at.
    type: list
    elements: path
    default: []
  read:
    description:
      - Small text files to return. Larger than 1 MiB or not UTF-8 is an error.
      - The content is shown in the output of the task. Never use it for secrets.
    type: list
    elements: path
    default: []
  disks:
    description: Absolute paths whose filesystems are of interest. They need not exist.
    type: list
    elements: path
    default: []
  images:
    description: References of Docker images, by tag or by digest.
    type: list
    elements: str
    default: []
  containers:
    description: Names of Docker containers.
    type: list
    elements: str
    default: []
  instances_directory:
    description:
      - State directory of the role C(vllm), below which instances are looked for. Units and
        containers of those that are found are in RV(host_state.services) and
        RV(host_state.containers) too, and the processes on their ports are looked up.
    type: path
  model_configs:
    description: Directories of models whose C(config.json) is read.
    type: list
    elements: path
    default: []
  models_directory:
    description: The store of the role C(model_store), in which O(models) are looked for.
    type: path
    version_added: 0.3.0
  models:
    description: Models that are wanted, C(org/name) or C(org/name@revision).
    type: list
    elements: str
    default: []
    version_added: 0.3.0
  models_check:
    description:
      - Whether files of models are judged by their sizes, V(size), or by every byte, V(full), which
        takes minutes.
    type: str
    choices: [size, full]
    default: size
    version_added: 0.3.0
  certificates:
    description:
      - Certificates of servers, and whether they can be served with. Nothing of a private key is
        returned.
    type: list
    elements: dict
    default: []
    suboptions:
      certificate:
        description: PEM file that begins with the server's certificate.
        type: path
        required: true
      key:
        description: PEM file with its private key. It may be the same file.
        type: path
        required: true
    version_added: 0.3.0
  ports:
    description: TCP ports for which the listening process is looked up.
    type: list
    elements: int
    default: []
  gpu_users:
    description: Also look for the processes that hold a GPU open. It looks at every process.
    type: bool
    default: false
    version_added: 0.3.0
  kernel_log:
    description: Also return what the kernel said of GPUs since it started, and the clock's state.
    type: bool
    default: false
    version_added: 0.3.0
attributes:
  check_mode:
    description: Reads the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show, as nothing changes.
    support: none
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: debian
"""

EXAMPLES = r"""
- name: Read the state of the host
  baremetal.vllm.host_state:
    packages: [docker.io, nginx]
    services: [docker.service, vllm@gpt-oss-20b.service]
    paths: [/var/lib/vllm/gpt-oss-20b/current]
    read: [/etc/docker/daemon.json]
    disks: [/var/lib/docker, /var/lib/vllm]
    images: [docker.io/vllm/vllm-openai:v0.32.0]
    containers: [vllm-gpt-oss-20b]
    ports: [8000]
  register: __vllm_host

- name: Install the engine where it is missing
  ansible.builtin.include_tasks: install.yml
  when: __vllm_host.host_state.packages['docker.io'] is none
"""

RETURN = r"""
root:
  description: Whether the module ran as root. Others are not shown all of a host.
  returned: always
  type: bool
  sample: true
host_state:
  description: What was found. The dictionaries have one key for everything that was asked for.
  returned: success
  type: dict
  contains:
    platform:
      description:
        - What the host is, under the names that the facts of M(ansible.builtin.setup) have.
      type: dict
      sample:
        distribution: Debian
        distribution_version: "12.13"
        architecture: x86_64
        service_mgr: systemd
    address:
      description: The IPv4 address that the host's default route speaks from; null without one.
      type: str
      sample: 192.0.2.7
    packages:
      description:
        - Version by package; null where it is not installed. What a glob matches is here only when
          it is installed.
      type: dict
      sample: {docker.io: 26.1.5+dfsg1-9, nginx: null}
    held:
      description: Packages on hold, which apt leaves as they are.
      type: list
      elements: str
      sample: [nvidia-kernel-open-dkms]
    unfinished:
      description: Packages whose installation was interrupted or failed.
      type: list
      elements: str
      sample: []
    services:
      description:
        - State by unit, as C(systemctl show) names it. C(load=not-found) where there is no such
          unit, or no running systemd.
        - C(active_enter) is when the unit last became active, in seconds since the epoch, or null.
      type: dict
      sample:
        docker.service:
          load: loaded
          active: active
          sub: running
          enabled: enabled
          main_pid: 812
          active_enter: 1795237651
          n_restarts: 0
          need_daemon_reload: false
    paths:
      description:
        - State by path; a link is not followed. C(type) is one of V(file), V(directory), V(link)
          and V(other). C(sha256) is that of regular files below 1 MiB. All but C(exists) may be
          null.
      type: dict
      sample:
        /var/lib/vllm/gpt-oss-20b/current:
          exists: true
          type: link
          target: releases/3f9c
          mode: '0777'
          owner: root
          group: root
          size: 13
          sha256: null
    read:
      description: Content by path; null where there is no such file.
      type: dict
      sample: {/etc/docker/daemon.json: null}
    certificates:
      description:
        - Certificate by its path. C(problem) says what keeps a server from using it, and is empty
          where nothing does; with a problem, names and times may be unknown.
        - Times are in seconds since the epoch; C(now) is the host's clock. C(names) are DNS names
          and addresses. C(resolved) are the two files behind all links. C(fingerprint) is the
          SHA-256 of the certificate, C(chain_fingerprint) that of all certificates of the file in
          a row; both are of DER.
      type: dict
      sample:
        /etc/ssl/llm.pem:
          certificate: /etc/ssl/llm.pem
          key: /etc/ssl/llm.key
          exists: true
          resolved: [/etc/ssl/llm.pem, /etc/ssl/llm.key]
          problem: ""
          fingerprint: 9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab
          chain_fingerprint: 51b30ab1c7b6a1a5f3f5d2c0b3a9ee0c6f1bf4ac1f0ad23df6a54f1f86a36d2e
          names: [llm.example.com]
          subject: llm.example.com
          issuer: Example CA
          not_before: 1795326231
          not_after: 1803102231
          now: 1795326300
    disks:
      description:
        - Room by path. C(path) is the nearest parent that exists. C(free_bytes) is what a user
          other than root can have. Equal C(device) means the same filesystem.
      type: dict
      sample:
        /var/lib/vllm:
          path: /var/lib
          total_bytes: 105089261568
          free_bytes: 88089261568
          device: '8:1'
    instances:
      description:
        - vLLM instances below O(instances_directory), with the ids and images of their releases and
          the one that is in force. C(publish) is where that one listens.
        - C(proved_at) is when a token of it was last seen, in seconds since the epoch, or null.
        - C(replica_of) is the instance whose replica it is, or null.
      type: list
      elements: dict
      sample:
        - name: gpt-oss-20b
          directory: /var/lib/vllm/gpt-oss-20b
          current: 3f9c0a1b2c3d
          publish: 127.0.0.1:8000
          proved_at: 1795237751.5
          replica_of: null
          releases: [3f9c0a1b2c3d]
          images: [docker.io/vllm/vllm-openai@sha256:aa11...]
          weights:
            - /var/lib/vllm/models/openai--gpt-oss-20b/6cee5e81ee83917806bbde320786a8fb61efebee
    models:
      description:
        - For each of O(models) what its source is to be asked for, C(ask), which is the commit
          where it is known; its C(commit), null where this host knows none; whether it is
          C(complete); the C(damaged) files, which are missing or not as the manifest says; C(bytes)
          of its files; and C(partial_bytes), what a download that was cut off has left.
      type: dict
      sample:
        openai/gpt-oss-20b:
          ask: openai/gpt-oss-20b@6cee5e81ee83917806bbde320786a8fb61efebee
          commit: 6cee5e81ee83917806bbde320786a8fb61efebee
          complete: true
          damaged: []
          bytes: 13789231104
          partial_bytes: 0
    model_configs:
      description:
        - Model by directory. C(config) is the content of its C(config.json), null where there is
          none that can be read. C(checkpoint_bytes) is the size of the weights beside it.
      type: dict
      sample:
        /srv/models/gpt-oss-20b:
          config: {model_type: gpt_oss, num_hidden_layers: 24}
          checkpoint_bytes: 13761264768
    images:
      description:
        - Image by reference; null where it is not on the host, or no Docker answers. A reference
          with a digest is also found under its local name, the only one that a loaded image has.
          C(digest) is empty for an image that was built on the host, C(local) where the image does
          not carry its local name.
      type: dict
      sample:
        docker.io/vllm/vllm-openai:v0.32.0:
          id: sha256:25b7…
          repo_digests: ['vllm/vllm-openai@sha256:9c1f…']
          digest: sha256:9c1f…
          local: localhost/vllm/vllm-openai:9c1f…
          size: 20401094656
    containers:
      description:
        - Container by name; null where there is none, or no Docker answers. C(image) is the id of
          the image, C(config_image) the reference the container was made from.
      type: dict
      sample:
        vllm-gpt-oss-20b:
          id: 8626…
          image: sha256:25b7…
          labels: {baremetal.vllm.release: 3f9c0a1b2c3d}
          config_image: vllm/vllm-openai@sha256:9c1f…
          state: running
          started_at: '2026-11-21T04:57:31.123456789Z'
          restart_count: 0
    docker:
      description:
        - The engine. C(socket) tells whether its socket exists; all else is null when it does not
          answer. C(cdi) tells whether it gives devices by CDI.
      type: dict
      sample:
        socket: true
        version: 26.1.5+dfsg1
        api_version: '1.45'
        storage_driver: overlay2
        root_dir: /var/lib/docker
        cdi: false
    memory:
      description: Memory in bytes.
      type: dict
      sample: {total_bytes: 25205968896, available_bytes: 23093104640}
    cpus:
      description: Number of logical processors.
      type: int
      sample: 64
    numa_cpus:
      description: Logical processors by NUMA node, as the kernel lists them.
      type: dict
      sample: {'0': '0-31,64-95', '1': '32-63,96-127'}
    nvidia_gpus:
      description: Number of NVIDIA display controllers on the PCI bus, with or without a driver.
      type: int
      sample: 8
    kernel:
      description:
        - The kernel that runs. C(headers) tells whether modules can be built for it.
        - C(secure_boot) is null where the host was not booted by EFI. C(module_key_enrolled) tells
          whether the key with which DKMS signs is among the machine owner's, null where nothing
          must be signed.
      type: dict
      sample:
        release: 6.1.0-41-amd64
        headers: true
        secure_boot: false
        module_key_enrolled: null
        nouveau: false
        reboot_required: false
    nvidia:
      description:
        - NVIDIA's devices and driver. C(devices) are all on the PCI bus, NVSwitches and sound too.
          C(switch_managers) are addresses of the ConnectX bridges that manage NVLink 5 switches.
        - C(module) is the one that is loaded, or null; its C(open) is null where that is unknown.
          C(library) is the version of libnvidia-ml. C(built) is the version on the disk by kernel.
        - C(users) are the processes that hold a GPU open, with O(gpu_users=true) only.
      type: dict
      sample:
        devices: [{address: '0000:19:00.0', device: '2330', class: '030200'}]
        switch_managers: []
        module: {version: 580.178.04, open: true}
        library: 580.178.04
        built: {6.1.0-41-amd64: 580.178.04}
    kernel_log:
      description:
        - The last lines of the kernel about NVIDIA and nouveau, at most 200, and at most 200 with
          an Xid. C(time) is null where only dmesg could be asked.
      returned: O(kernel_log=true)
      type: list
      elements: dict
      sample:
        - {time: '2026-11-21T04:57:31+0000', line: 'NVRM: Xid (PCI:0000:19:00): 79, ...'}
    time:
      description: The clock. C(synchronized) is null where nobody knows.
      returned: O(kernel_log=true)
      type: dict
      sample: {synchronized: true}
    cdi_devices:
      description:
        - Qualified device names of the CDI specifications in C(/etc/cdi) and C(/var/run/cdi).
        - JSON and YAML in the block style of nvidia-ctk are understood; what is not is left out.
      type: list
      elements: str
      sample: [nvidia.com/gpu=0, nvidia.com/gpu=all]
    listening:
      description:
        - All listening TCP sockets of the host. C(pid) and C(process) are looked up for O(ports)
          only, and null elsewhere.
      type: list
      elements: dict
      sample:
        - {address: 127.0.0.1, port: 8000, protocol: tcp, pid: 4711, process: docker-proxy}
    systemd:
      description: Version of systemd; null where the host was not booted with it.
      type: int
      sample: 252
    python:
      description: Version of Python that ran this module.
      type: str
      sample: 3.11.2
"""

import os
import platform
import threading
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.sys_info import get_distribution, get_distribution_version

from ansible_collections.baremetal.vllm.plugins.module_utils import _host_driver as driver
from ansible_collections.baremetal.vllm.plugins.module_utils import _host_state as host
from ansible_collections.baremetal.vllm.plugins.module_utils._certificate import certificate_state
from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import DEFAULT_SOCKET
from ansible_collections.baremetal.vllm.plugins.module_utils._model_state import models


class Reader:
    """Reads the state of one host; the programs and Docker side by side, the rest meanwhile."""

    def __init__(
        self,
        parameters: t.Mapping[str, t.Any],
        root: str = "/",
        docker_socket: str = DEFAULT_SOCKET,
    ) -> None:
        self._wanted = parameters
        self._root = root
        self._docker = host.Docker(docker_socket)
        self._state: dict[str, t.Any] = {}
        self._errors: list[Exception] = []

    def read(self) -> dict[str, t.Any]:
        """Return the state. Raises HostStateError for what is there and cannot be read."""
        self._reject_relative_paths()
        self._guarded(self._instances)
        parts = (
            self._packages,
            self._services,
            self._systemd,
            self._containers,
            self._driver,
        )
        threads = [threading.Thread(target=self._guarded, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        self._guarded(self._files)
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return self._state

    @property
    def warnings(self) -> list[str]:
        """Return what the operator should know although nothing failed."""
        failure = self._docker.failure
        return [f"Docker has a socket, but: {failure}."] if failure else []

    def _guarded(self, part: t.Callable[[], None]) -> None:
        try:
            part()
        except OSError as error:
            self._errors.append(host.HostStateError(f"The host cannot be read: {error}."))
        except Exception as error:  # a thread would swallow it
            self._errors.append(error)

    def _reject_relative_paths(self) -> None:
        for parameter in ("paths", "read", "disks", "model_configs"):
            for path in self._wanted[parameter]:
                if not os.path.isabs(path):
                    raise host.HostStateError(
                        f"{parameter}: {path!r} is not an absolute path: start it with a slash."
                    )

    def _instances(self) -> None:
        """Look for instances first: their units and containers are read with the others."""
        found = host.instances(self._wanted["instances_directory"] or "")
        self._state["instances"] = found
        self._wanted = {
            **self._wanted,
            "services": _joined(
                self._wanted["services"], [f"vllm@{each['name']}.service" for each in found]
            ),
            "containers": _joined(
                self._wanted["containers"], [f"vllm-{each['name']}" for each in found]
            ),
            "ports": [*self._wanted["ports"], *host.published_ports(found)],
        }

    def _packages(self) -> None:
        known = host.known_packages()
        self._state.update(
            packages=host.packages(self._wanted["packages"], known),
            held=host.held(known),
            unfinished=host.unfinished(known),
        )

    def _driver(self) -> None:
        devices = host.nvidia_devices(self._root)
        nvidia = driver.nvidia(devices, self._root)
        if self._wanted["gpu_users"]:
            nvidia["users"] = driver.gpu_users(self._root)
        self._state.update(
            nvidia_gpus=host.display_controllers(devices),
            nvidia=nvidia,
            kernel=driver.kernel(self._root),
        )
        if self._wanted["kernel_log"]:
            self._state.update(kernel_log=driver.kernel_log(), time=driver.clock())

    def _services(self) -> None:
        self._state["services"] = host.services(self._wanted["services"], self._root)

    def _systemd(self) -> None:
        self._state["systemd"] = host.systemd_version(self._root)

    def _containers(self) -> None:
        docker, wanted = self._docker, self._wanted
        self._state["docker"] = docker.engine()
        self._state["images"] = {name: docker.image(name) for name in wanted["images"]}
        self._state["containers"] = {name: docker.container(name) for name in wanted["containers"]}

    def _files(self) -> None:
        wanted, root = self._wanted, self._root
        self._state.update(
            platform={
                "distribution": get_distribution(),
                "distribution_version": get_distribution_version(),
                "architecture": platform.machine(),
                "service_mgr": host.service_manager(root),
            },
            address=host.default_address(),
            paths={path: host.path_state(path) for path in wanted["paths"]},
            read={path: host.read_text(path) for path in wanted["read"]},
            certificates={
                files["certificate"]: certificate_state(files["certificate"], files["key"])
                for files in wanted["certificates"]
            },
            disks={path: host.disk(path) for path in wanted["disks"]},
            memory=host.memory(root),
            cpus=os.cpu_count(),
            numa_cpus=host.numa_cpus(root),
            cdi_devices=host.cdi_devices(root),
            models=models(
                wanted["models_directory"] or "", wanted["models"], wanted["models_check"] == "full"
            ),
            model_configs={path: host.model_config(path) for path in wanted["model_configs"]},
            listening=host.listening(wanted["ports"], root),
            python=platform.python_version(),
        )


def _joined(asked: t.Sequence[str], found: t.Sequence[str]) -> list[str]:
    """Return what was asked for and, behind it, what was found besides."""
    return [*asked, *(name for name in found if name not in asked)]


def argument_spec() -> dict[str, t.Any]:
    path = {"type": "path", "required": True}
    elements = {
        "packages": "str",
        "services": "str",
        "paths": "path",
        "read": "path",
        "disks": "path",
        "images": "str",
        "containers": "str",
        "ports": "int",
        "model_configs": "path",
        "models": "str",
    }
    lists = {
        name: {"type": "list", "elements": kind, "default": []} for name, kind in elements.items()
    }
    return {
        **lists,
        "certificates": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"certificate": path, "key": path},
        },
        "models_directory": {"type": "path"},
        "models_check": {"type": "str", "choices": ["size", "full"], "default": "size"},
        "gpu_users": {"type": "bool", "default": False},
        "kernel_log": {"type": "bool", "default": False},
        "instances_directory": {"type": "path"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    reader = Reader(module.params)
    is_root = os.geteuid() == 0
    try:
        state = reader.read()
    except host.HostStateError as error:
        module.fail_json(msg=str(error), root=is_root)
    for warning in reader.warnings:
        module.warn(warning)
    module.exit_json(changed=False, host_state=state, root=is_root)


if __name__ == "__main__":
    main()
