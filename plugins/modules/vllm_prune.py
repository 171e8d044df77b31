#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_prune
short_description: Find the releases, models and images that nothing uses, and remove them
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Copies of models are shared by the instances of a host. One goes when no release that stays
    names it, and no container that runs mounts it, whatever the releases say.
  - Of each instance the release in force stays, O(keep_releases) earlier ones, and what a running
    container was started from. An instance of which no release is in force keeps them all.
  - An image goes when its repository is one that the releases name, those that go included, when no
    release that stays names it, and when no container uses it, running or not.
  - What might be needed stays. A release that does not say which copy it needs, as older versions
    of this collection wrote them, needs all copies of its model. A model that is being downloaded
    is left alone as a whole. Files, directories and links that this collection has not made are
    listed under RV(unknown) and left.
  - Without O(remove) it only lists.
  - What goes is renamed into a C(.trash) beside it before it is deleted, so a run that was killed
    leaves nothing half removed under its name. The next one finishes it.
attributes:
  check_mode:
    support: full
    description: Says with O(remove=true) that it would change something, and removes nothing.
  diff_mode:
    support: none
    description: What goes is in the result.
  idempotent:
    support: full
    description: What is gone is not found again.
options:
  state_directory:
    description: Where the releases of the instances are.
    type: path
    default: /var/lib/vllm
  models_directory:
    description: The store of models.
    type: path
    default: /var/lib/vllm/models
  keep_releases:
    description: How many releases of each instance stay for a rollback, besides the one in force.
    type: int
    default: 1
  remove:
    description: Remove what is found. Needs a Docker that answers, since containers count.
    type: bool
    default: false
  socket:
    description: Docker's Unix socket.
    type: path
    default: /var/run/docker.sock
notes:
  - Do not run it beside C(playbooks/site.yml). A model that has just been fetched for a release
    that is not written yet is one that nothing uses.
seealso:
  - module: baremetal.vllm.image_pull
"""

EXAMPLES = r"""
- name: Show what nothing uses
  baremetal.vllm.vllm_prune:
  register: unused

- name: Remove it, and all releases but those in force
  baremetal.vllm.vllm_prune:
    keep_releases: 0
    remove: true
"""

RETURN = r"""
releases:
  description: Releases that nothing needs. C(bytes) is their size, C(why) the reason.
  returned: success
  type: list
  elements: dict
  sample:
    - name: gpt-oss-20b/3f9c0a1b2c3d
      path: /var/lib/vllm/gpt-oss-20b/releases/3f9c0a1b2c3d
      bytes: 9127
      why: not in force, and newer ones stay for a rollback
models:
  description: Copies of models that nothing needs.
  returned: success
  type: list
  elements: dict
  sample:
    - name: openai/gpt-oss-20b@6cee5e81ee83917806bbde320786a8fb61efebee
      path: /var/lib/vllm/models/openai--gpt-oss-20b/6cee5e81ee83917806bbde320786a8fb61efebee
      bytes: 13789242581
      why: no release names it, no container mounts it
partial:
  description:
    - What is no whole copy and nothing works on. Downloads that were cut off, copies without
      manifest, manifests without copy, and what an earlier prune had no time for.
  returned: success
  type: list
  elements: dict
  sample: []
images:
  description:
    - Images that nothing uses. C(bytes) is the size on disk as Docker gives it, in which layers
      that images share count for each of them.
    - With O(remove=true), without those that Docker has refused to remove, which is a warning.
  returned: success
  type: list
  elements: dict
  sample:
    - name: vllm/vllm-openai@sha256:9b0bbcb2d2f8a9a1e2cd5f6b2c7d4a5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c
      id: sha256:3f57d9401f8d42f986df300f0c69192fc41da28ccc8d797829467780db3dd741
      bytes: 20401094656
      why: no release names it, no container uses it
unknown:
  description:
    - What is in the store and not of this collection, and releases without a C(release.json) that
      can be read. It is never removed, and not in RV(bytes).
  returned: success
  type: list
  elements: dict
  sample:
    - name: hub
      path: /var/lib/vllm/models/hub
      bytes: 13789231104
      why: not a directory of a model
bytes:
  description: Bytes of all releases, models, partial copies and images that are listed.
  returned: success
  type: int
  sample: 34190346364
removed:
  description: Whether what is listed was removed.
  returned: success
  type: bool
  sample: false
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import DockerAPI
from ansible_collections.baremetal.vllm.plugins.module_utils._prune import (
    PruneError,
    Settings,
    Unused,
    prune,
)


def _refuse_invalid(module: AnsibleModule) -> None:
    for option in ("state_directory", "models_directory"):
        path = module.params[option]
        if not os.path.isabs(path) or os.path.realpath(path) == "/":
            module.fail_json(
                msg=f"{option}: {path!r} is no directory to look in; allowed is an absolute path "
                "below the root directory."
            )
    if module.params["keep_releases"] < 0:
        module.fail_json(
            msg=f"keep_releases: {module.params['keep_releases']} is no number of releases; "
            "allowed are whole numbers from 0."
        )


def _listed(found: Unused) -> dict[str, t.Any]:
    why = "no release names it, no container uses it"
    return {
        "releases": [each._asdict() for each in found.releases],
        "models": [each._asdict() for each in found.models],
        "partial": [each._asdict() for each in found.partial],
        "images": [
            {"name": image.name, "id": image.id, "bytes": image.bytes, "why": why}
            for image in found.images
        ],
        "unknown": [each._asdict() for each in found.unknown],
        "bytes": sum(found.sizes),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_directory": {"type": "path", "default": "/var/lib/vllm"},
            "models_directory": {"type": "path", "default": "/var/lib/vllm/models"},
            "keep_releases": {"type": "int", "default": 1},
            "remove": {"type": "bool", "default": False},
            "socket": {"type": "path", "default": "/var/run/docker.sock"},
        },
        supports_check_mode=True,
    )
    _refuse_invalid(module)
    wanted = module.params
    settings = Settings(
        wanted["state_directory"], wanted["models_directory"], wanted["keep_releases"]
    )
    try:
        found = prune(settings, DockerAPI(wanted["socket"]), wanted["remove"], module.check_mode)
    except PruneError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename} cannot be read or removed ({error.strerror}); mend that and run "
            "again: what has been removed so far needs no care."
        )
    if found.silence:
        module.warn(f"Images and containers are left out: {found.silence}.")
    for refusal in found.refused:
        module.warn(f"Docker did not remove an image. {refusal}")
    changed = wanted["remove"] and bool(found.sizes)
    module.exit_json(changed=changed, removed=changed and not module.check_mode, **_listed(found))


if __name__ == "__main__":
    main()
