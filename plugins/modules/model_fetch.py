#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: model_fetch
short_description: Fetch a model into a host's store, verified and resumed
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Brings the files of a model at one commit to a host, compares every byte with what the source
    promises, and gives the directory its final name only then.
  - A copy that is complete is left alone, and neither the source nor Docker is asked. Whether it
    is complete is a matter of names and sizes, see O(check).
  - Files of a copy that are missing or damaged are fetched, and no others. Each is replaced as a
    whole, so that an engine which is being served from the copy never misses one.
  - The download runs in a container of the image of vLLM, with the client that is in it, as an
    ordinary user without capabilities and with a read-only root. Nothing is installed on the host.
  - What has arrived is kept when a download is cut off, by whatever, and the next run goes on from
    it, within files too. A file with a wrong hash is fetched once more before that is an error.
  - Proxies of the environment (C(https_proxy), C(no_proxy)) are used.
attributes:
  check_mode:
    support: full
    description: Says what would be fetched, and asks neither the source nor Docker.
  diff_mode:
    support: none
    description: Weights have no content that a diff could show.
  idempotent:
    support: full
    description: A copy that is complete is not fetched again.
options:
  store:
    description:
      - The directory of all models. It is made where it does not exist. A model lies in
        C(<org>--<name>/<commit>) in it, with its manifest C(<commit>.json) beside that.
    type: path
    default: /var/lib/vllm/models
  listing:
    description: What the source has, one of RV(baremetal.vllm.model_source#module:listings).
    type: dict
    required: true
    suboptions:
      asked:
        description: What the source was asked for; not used.
        type: str
      model:
        description: The model, as C(org/name).
        type: str
        required: true
      revision:
        description:
          - The branch or tag that was asked for. It is recorded in C(revisions.json) that it was
            this commit.
        type: str
      commit:
        description: What names the content, 40 hexadecimal digits.
        type: str
        required: true
      source:
        description: The source's address. No other server is told O(token).
        type: str
        required: true
      excluded_bytes:
        description: Bytes of files that serving does not need; not used.
        type: int
      files:
        description: The files that the copy shall have. Others in it are left alone.
        type: list
        elements: dict
        required: true
        suboptions:
          path:
            description: The path within the model.
            type: str
            required: true
          size:
            description: The size in bytes.
            type: int
            required: true
          sha256:
            description: The sha256 of the content, where the source knows it.
            type: str
          git_sha1:
            description:
              - The name that Git has for the content. It is compared where the sha256 is not known.
            type: str
          url:
            description: Where the file is fetched. It may be signed, so it is never shown.
            type: str
            required: true
  image:
    description: An image with Python and huggingface_hub that is on the host, such as vLLM's.
    type: str
    required: true
  container_user:
    description: The user and the group of the container, as numbers.
    type: str
    default: "2000:0"
  token:
    description: Sent as bearer token to O(listing.source). Empty means none.
    type: str
    default: ""
  ca_path:
    description: PEM file on the host with authorities to trust beside those that the image trusts.
    type: path
  workers:
    description: How many files are fetched at once.
    type: int
    default: 8
  timeout:
    description: How long the download may take, in seconds.
    type: int
    default: 21600
  check:
    description:
      - How a copy that is there is held against its manifest. V(size) looks at names and sizes,
        V(full) reads all of it, and what differs is fetched again.
    type: str
    choices: [size, full]
    default: size
  progress_file:
    description:
      - A file that holds the download's status as JSON, replaced as a whole at most once a second.
      - Its keys are C(phase) (V(downloading), V(verifying), V(done) or V(failed)), C(files),
        C(files_done), C(current_bytes), C(total_bytes), C(resumed_bytes), C(bytes_per_second) over
        the last ten seconds, and C(elapsed) in seconds.
      - Its directory must exist. Nothing is written when nothing is fetched.
    type: path
seealso:
  - module: baremetal.vllm.model_source
  - module: baremetal.vllm.model_wait
  - module: baremetal.vllm.model_verify
"""

EXAMPLES = r"""
- name: Ask Hugging Face for the model
  baremetal.vllm.model_source:
    models: [openai/gpt-oss-20b]
  register: source

- name: Begin to fetch it in the background
  baremetal.vllm.model_fetch:
    listing: "{{ source.listings[0] }}"
    image: "{{ vllm_image }}"
    token: "{{ hub_token }}"
    timeout: 3600
    progress_file: /run/vllm-model.json
  async: 3900
  poll: 0
  register: fetch

- name: Wait for it, with a display
  baremetal.vllm.model_wait:
    job: "{{ fetch.ansible_job_id }}"
    model: openai/gpt-oss-20b
    progress_file: /run/vllm-model.json
    timeout: 3900

- name: Fetch again what no longer is what it was
  baremetal.vllm.model_fetch:
    listing: "{{ source.listings[0] }}"
    image: "{{ vllm_image }}"
    check: full
"""

RETURN = r"""
model:
  description: The model.
  returned: success
  type: str
  sample: openai/gpt-oss-20b
commit:
  description: The commit.
  returned: success
  type: str
  sample: 6cee5e81ee83917806bbde320786a8fb61efebee
directory:
  description: Where the files are, for C(vllm serve).
  returned: success
  type: str
  sample: /var/lib/vllm/models/openai--gpt-oss-20b/6cee5e81ee83917806bbde320786a8fb61efebee
bytes:
  description: Bytes of all files of the listing.
  returned: success
  type: int
  sample: 13761300984
fetched:
  description: The paths that were missing or damaged, in check mode those that would be fetched.
  returned: success
  type: list
  elements: str
  sample: [config.json, model-00000-of-00002.safetensors]
downloaded_bytes:
  description: Bytes that this run received. Zero in check mode.
  returned: success
  type: int
  sample: 13761300984
resumed_bytes:
  description: Bytes that were there of an earlier download. Zero in check mode.
  returned: success
  type: int
  sample: 0
missing_bytes:
  description: Bytes that are still to be received. Always zero outside check mode.
  returned: success
  type: int
  sample: 0
elapsed:
  description: How long the module took, in seconds.
  returned: success
  type: float
  sample: 98.3
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_container
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_fetch import Fetcher
from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import StoreError

_FILE = {
    "path": {"type": "str", "required": True},
    "size": {"type": "int", "required": True},
    "sha256": {"type": "str"},
    "git_sha1": {"type": "str"},
    "url": {"type": "str", "required": True, "no_log": True},
}
_LISTING = {
    "asked": {"type": "str"},
    "model": {"type": "str", "required": True},
    "revision": {"type": "str"},
    "commit": {"type": "str", "required": True},
    "source": {"type": "str", "required": True},
    "excluded_bytes": {"type": "int"},
    "files": {"type": "list", "elements": "dict", "required": True, "options": _FILE},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "store": {"type": "path", "default": "/var/lib/vllm/models"},
            "listing": {"type": "dict", "required": True, "options": _LISTING},
            "image": {"type": "str", "required": True},
            "container_user": {"type": "str", "default": "2000:0"},
            "token": {"type": "str", "default": "", "no_log": True},
            "ca_path": {"type": "path"},
            "workers": {"type": "int", "default": 8},
            "timeout": {"type": "int", "default": 21600},
            "check": {"type": "str", "choices": ["size", "full"], "default": "size"},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        request = _model_container.Request.of(module.params)
        fetcher = Fetcher(request, _model_container.run_program)
        result = fetcher.fetch(module.check_mode)
    except (StoreError, PullError, _model_container.FetchError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"The store {module.params['store']} cannot be used ({error}); look at its disk "
            "and its permissions."
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
