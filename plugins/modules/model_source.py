#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: model_source
short_description: Ask a hub or a mirror which files its models have
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Asks the source of a fleet's models, for each model at one revision, for the commit that the
    revision is, and for its files with sizes, hashes and addresses.
  - Only what serving needs is listed. Files that match O(exclude) are left out, and so are
    C(*.bin), C(*.pt) and C(*.pth) beside a C(*.safetensors) in the same directory, which hold the
    same weights in older formats.
  - A model that could not be verified or served is refused, as one with a file that has no size or
    hash or whose name leads out of the model's directory, one without weights, and one without
    C(config.json).
  - Fetches no file of a model, and needs nothing on the host but Python. Proxies of the environment
    (C(https_proxy), C(no_proxy)) are used; C(~/.netrc) is not.
  - An answer of 429, 500, 502, 503 or 504 and a connection that fails are tried four times in all,
    with pauses of 1, 2 and 4 seconds, or what the server asks for up to 30 seconds.
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  models:
    description:
      - The models, each as C(org/name) or C(org/name@revision). A revision is a branch, a tag or a
        commit of 40 digits.
      - Without a revision it is V(main), and V(master) for O(provider=modelscope).
    type: list
    elements: str
    required: true
  provider:
    description:
      - The kind of source.
      - V(huggingface) is any server with the API of huggingface.co, also a mirror.
      - V(modelscope) is ModelScope.
      - V(http) is a directory on a web server. V(s3) is a bucket of Amazon S3 or of another server
        that speaks S3. Both have a directory C(<org>/<name>) for each model, with the files and a
        C(SHA256SUMS) that lists them as C(sha256sum) of coreutils does. That directory is revision
        V(main), unless only a directory C(main) in it has the file. Other revisions are directories
        in it, as C(<org>/<name>/<revision>).
    type: str
    choices: [huggingface, modelscope, http, s3]
    default: huggingface
  endpoint:
    description:
      - The source's address, as C(http(s)://host[:port][/path]).
      - For O(provider=s3), C(https://host[:port]/bucket[/prefix]).
      - Without it, C(https://huggingface.co) for O(provider=huggingface) and
        C(https://modelscope.cn) for O(provider=modelscope). The other providers need it.
    type: str
  token:
    description:
      - Sent as bearer token to O(endpoint) and to no server that it redirects to. Empty means none.
      - O(provider=s3) does not use it.
    type: str
  exclude:
    description:
      - Patterns of paths that are not listed, as of Python's C(fnmatch) on the whole path, in which
        C(*) matches C(/) too.
    type: list
    elements: str
    default: []
  ca_path:
    description:
      - PEM file on the host with authorities to trust beside those of the system.
    type: path
  s3_access_key:
    description:
      - Access key of O(provider=s3). It is a name and no secret, and is a part of the addresses.
      - Without O(s3_access_key) and O(s3_secret_key), the bucket is asked anonymously.
    type: str
  s3_secret_key:
    description:
      - Secret key of O(provider=s3). Used for signing, never sent.
    type: str
  s3_region:
    description:
      - Region of the bucket.
    type: str
    default: us-east-1
  s3_url_lifetime:
    description:
      - Seconds for which the addresses of O(provider=s3) hold, up to 604800, which is 7 days.
        A download has to begin its last file within them.
    type: int
    default: 86400
  timeout:
    description:
      - Seconds without an answer after which an attempt has failed.
    type: int
    default: 30
notes:
  - With O(s3_access_key) each RV(listings[].files[].url) is signed, so whoever knows it can read
    that file until it expires. Set C(no_log) on the task, and on those that use its result.
seealso:
  - name: AWS Signature Version 4 in the query
    description: How the addresses of O(provider=s3) are signed.
    link: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

EXAMPLES = r"""
- name: Ask Hugging Face for a model at a tag
  baremetal.vllm.model_source:
    models: [openai/gpt-oss-20b@v1.0]
    token: "{{ hub_token }}"
    exclude: [original/*, metal/*, "*.md"]
  register: source

- name: Say how much there is to fetch
  ansible.builtin.debug:
    msg: "{{ source.listings[0].files | sum(attribute='size') }} bytes"

- name: Ask a mirror with a certificate of one's own
  baremetal.vllm.model_source:
    models: "{{ fleet_models }}"
    endpoint: https://hub.example.com
    ca_path: /etc/ssl/private-ca.pem

- name: Ask a bucket
  baremetal.vllm.model_source:
    models: [openai/gpt-oss-120b]
    provider: s3
    endpoint: https://s3.example.com:9000/models
    s3_access_key: "{{ s3_access_key }}"
    s3_secret_key: "{{ s3_secret_key }}"
  no_log: true
  register: source
"""

RETURN = r"""
listings:
  description: What the source has of each model, in the order of O(models).
  returned: success
  type: list
  elements: dict
  contains:
    asked:
      description: The entry of O(models), as it was given.
      type: str
      sample: openai/gpt-oss-20b@main
    model:
      description: The model, without its revision.
      type: str
      sample: openai/gpt-oss-20b
    revision:
      description: The revision that was asked for, or the source's own when none was given.
      type: str
      sample: main
    commit:
      description:
        - What names this content for ever, 40 hexadecimal digits.
        - The commit, for V(huggingface). For V(http) and V(s3) the first digits of the sha256 of
          C(SHA256SUMS), or the revision itself where that is a commit. For V(modelscope) the commit
          if it tells, else the first digits of a sha256 over paths and hashes.
      type: str
      sample: 6cee5e81ee83917806bbde320786a8fb61efebee
    source:
      description: The address that was asked, without a slash at its end.
      type: str
      sample: https://huggingface.co
    files:
      description: The files, by path.
      type: list
      elements: dict
      contains:
        path:
          description: The path, relative to the model's directory.
          type: str
          sample: model-00000-of-00002.safetensors
        size:
          description: The size in bytes.
          type: int
          sample: 4792272488
        sha256:
          description:
            - The sha256 of the content. Null where the source knows RV(listings[].files[].git_sha1)
              alone.
          type: str
          sample: 16d0f997dcfc4462089d536bffe51b4bcea2f872f5c430be09ef8ed392312427
        git_sha1:
          description:
            - The name that Git has for the content, the sha1 of C(blob <size>) with a null byte and
              the content. Null where the source does not tell.
          type: str
          sample: 4b4a2f4a3e1d8b6c5f5d3f1c9f0a7e6d5c4b3a29
        url:
          description:
            - Where the file is to be fetched. The source may redirect from there.
            - Holds a signature with O(s3_access_key), and no credentials otherwise.
          type: str
          sample: >-
            https://huggingface.co/openai/gpt-oss-20b/resolve/6cee5e81ee83917806bbde320786a8fb61efebee/config.json
    excluded_bytes:
      description: Bytes of the files that are not listed.
      type: int
      sample: 27546431488
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._model_source import (
    REVISIONS,
    Settings,
    list_models,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import SourceError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "models": {"type": "list", "elements": "str", "required": True},
            "provider": {"type": "str", "choices": list(REVISIONS), "default": "huggingface"},
            "endpoint": {"type": "str"},
            "token": {"type": "str", "no_log": True},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "ca_path": {"type": "path"},
            # A name that is a part of every signed address, where Ansible would black it out.
            "s3_access_key": {"type": "str", "no_log": False},
            "s3_secret_key": {"type": "str", "no_log": True},
            "s3_region": {"type": "str", "default": "us-east-1"},
            "s3_url_lifetime": {"type": "int", "default": 86400},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    given = dict(module.params)
    models, exclude = given.pop("models"), given.pop("exclude")
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    try:
        listings = list_models(models, exclude, settings)
    except SourceError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, listings=listings)


if __name__ == "__main__":
    main()
