#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_health
short_description: Wait until a vLLM is up, and prove it with a generated token
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Asks a vLLM server until it has reached a level of proof, or until O(timeout) seconds are over.
  - The levels are cumulative. C(process) means that a connection is accepted and O(health_path)
    answers 200; C(models), that O(model) is listed; C(token), that one token was generated;
    C(heartbeat), that C(vllm:iteration_tokens_total) moves while requests are running or waiting.
  - An answer 200 of C(/health) is no proof that the engine works, since vLLM runs no inference for
    it and a hung engine keeps giving it.
  - Attempts follow each other after 0.1, 0.2, 0.4 seconds and so on, up to O(interval).
  - Reads only. Proxies of the environment and redirects are not followed.
attributes:
  check_mode:
    support: full
    description:
      - Makes exactly one attempt, whatever O(timeout) is, and does not fail when the level is not
        reached. Read RV(state) and RV(message).
  diff_mode:
    support: none
    description: Changes nothing.
notes:
  - Not waited for, since waiting would not help, are the states V(unauthorised) and V(wrong_model),
    and of V(error) a certificate that does not hold, an answer that is not HTTP or not JSON, a
    status below 500 such as 404, a host name without address, and a C(/metrics) without the
    metrics of vLLM. Every other state is waited for until O(timeout), also V(engine_dead), because
    the unit starts the engine again.
  - A failed task has all return values too.
options:
  url:
    description:
      - Where vLLM, or an edge in front of it, listens. V(http://host:port), V(https://host:port) or
        V(unix:///path/to/socket), without C(/v1).
    type: str
    required: true
  api_key:
    description:
      - Key sent as bearer token. Empty means none.
    type: str
  model:
    description:
      - Served name that has to be listed, and that is asked for a token.
      - Without it, the first one listed is used.
    type: str
  level:
    description:
      - How much has to be proved.
      - V(heartbeat) needs C(/metrics), which an edge does not serve.
    type: str
    choices: [process, models, token, heartbeat]
    default: token
  api:
    description:
      - How the token is asked for, V(chat) at C(/v1/chat/completions) or V(completion) at
        C(/v1/completions). The latter serves models without a chat template.
    type: str
    choices: [chat, completion]
    default: chat
  health_path:
    description:
      - Path of the level C(process). An edge of this collection has V(/healthz).
    type: str
    default: /health
  timeout:
    description:
      - Seconds to wait for the level. V(0) makes one attempt.
      - Requests under way at the end get one more second each.
    type: float
    default: 0
  interval:
    description:
      - Longest pause between two attempts, in seconds.
    type: float
    default: 2
  request_timeout:
    description:
      - Seconds for one request, from connecting to the last byte, also for the token.
      - A busy engine is slow, so a low value mistakes it for one that hangs.
    type: float
    default: 30
  heartbeat_window:
    description:
      - Seconds that an engine may have requests without finishing a step before it counts as
        V(stalled).
      - An engine passes at once when it has no requests, and otherwise as soon as it moves, so that
        the window is only waited for when it hangs. With data parallelism every engine has to pass.
    type: float
    default: 120
  validate_certs:
    description:
      - Whether the certificate of an https server has to hold.
    type: bool
    default: true
  ca_path:
    description:
      - PEM file, or directory of hashed ones, with the authorities to trust. Without it, those of
        the system.
      - The certificate of the server itself may be among them, whoever has signed it.
    type: path
  server_name:
    description:
      - Name that an https server is asked under, and that its certificate must have, where O(url)
        has another, such as an address of loopback. Without it, the host in O(url).
    type: str
    version_added: 0.3.0
"""

EXAMPLES = r"""
- name: Wait until the engine generates tokens
  baremetal.vllm.vllm_health:
    url: http://127.0.0.1:8000
    api_key: "{{ vllm_api_key }}"
    model: gpt-oss-20b
    timeout: 1800

- name: See once how far an engine has come
  baremetal.vllm.vllm_health:
    url: http://127.0.0.1:8000
  check_mode: true
  register: engine

- name: Ask through the edge
  baremetal.vllm.vllm_health:
    url: https://llm.example.com
    health_path: /healthz
    api_key: "{{ client_key }}"
    ca_path: /etc/ssl/private-ca.pem
    timeout: 30

- name: Ask an edge on its own host, as clients ask from elsewhere
  baremetal.vllm.vllm_health:
    url: https://127.0.0.1
    server_name: llm.example.com
    health_path: /healthz
    api_key: "{{ client_key }}"

- name: Watch that a busy engine still works
  baremetal.vllm.vllm_health:
    url: unix:///run/vllm/gpt-oss-20b.sock
    level: heartbeat
    heartbeat_window: 120
"""

RETURN = r"""
state:
  description:
    - V(ready), the level holds.
    - V(refused), no connection. Nothing listens, as while a model loads, or the host cannot be
      reached.
    - V(starting), the connection is accepted and closed, as by the proxy of Docker before vLLM
      listens, or a gateway in front answers 502.
    - V(engine_dead), 503 from O(health_path), C(EngineDeadError) from elsewhere, or a process that
      went away during a request.
    - V(stalled), no answer in time, or requests without a heartbeat.
    - V(overloaded), the request was refused admission by 429 or 503, or got no token in time while
      the engine served others.
    - V(wrong_model), O(model) is not served.
    - V(unauthorised), 401 or 403.
    - V(error), anything else. RV(message) says what.
  type: str
  returned: always
  sample: ready
level_reached:
  description: Highest level that held in the last attempt, null when none did.
  type: str
  returned: always
  sample: token
attempts:
  description: How many times the levels were tried.
  type: int
  returned: always
  sample: 31
elapsed:
  description:
    - Seconds that each level took from the one below, waiting included, for the levels that hold.
    - C(total) has the seconds of the whole wait.
  type: dict
  returned: always
  sample: {process: 41.72, models: 0.012, token: 0.318, total: 42.05}
version:
  description: Version of vLLM, null when the server does not tell, as behind an edge.
  type: str
  returned: always
  sample: 0.32.0
max_model_len:
  description: Longest context of the model in tokens, null when the server does not tell.
  type: int
  returned: always
  sample: 131072
model:
  description: Served name that was found, null before the level C(models).
  type: str
  returned: always
  sample: gpt-oss-20b
message:
  description: One sentence with the url, the level and the last answer. On failure also in RV(msg).
  type: str
  returned: always
  sample: >-
    http://127.0.0.1:8000 did not reach the level token after 1 attempt in 0.0 seconds:
    GET /health: connection refused (state refused); nothing listens there yet, see the journal of
    the unit.
msg:
  description: The same as RV(message).
  type: str
  returned: on failure
"""

import dataclasses
import math
import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._health import (
    LEVELS,
    READY,
    Health,
    Wanted,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._http import Client, parse_url

ARGUMENTS: dict[str, dict[str, Any]] = {
    "url": {"type": "str", "required": True},
    "api_key": {"type": "str", "no_log": True},
    "model": {"type": "str"},
    "level": {"type": "str", "choices": list(LEVELS), "default": "token"},
    "api": {"type": "str", "choices": ["chat", "completion"], "default": "chat"},
    "health_path": {"type": "str", "default": "/health"},
    "timeout": {"type": "float", "default": 0},
    "interval": {"type": "float", "default": 2},
    "request_timeout": {"type": "float", "default": 30},
    "heartbeat_window": {"type": "float", "default": 120},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "server_name": {"type": "str"},
}


_SERVER_NAME = re.compile(r"[A-Za-z0-9.:-]*")


def check_parameters(params: dict[str, Any]) -> None:
    """Raise ValueError, with a sentence, for what the argument types let pass."""
    for name in ("timeout", "interval", "request_timeout", "heartbeat_window"):
        value = params[name]
        if not math.isfinite(value) or value < 0 or (value == 0 and name != "timeout"):
            least = "0 or more" if name == "timeout" else "more than 0"
            raise ValueError(f"{name} is {value}; it must be a number of seconds, {least}.")
    path = params["health_path"]
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError(f"health_path {path!r} is not a path; it must begin with /, like /health.")
    name = params["server_name"] or ""
    if not _SERVER_NAME.fullmatch(name):
        raise ValueError(f"server_name {name!r} is neither a DNS name nor an IP address.")


def build_health(params: dict[str, Any], check_mode: bool) -> Health:
    """Raise ValueError, with a sentence, for parameters that cannot be used."""
    check_parameters(params)
    address = dataclasses.replace(parse_url(params["url"]), server_name=params["server_name"] or "")
    ca_path = params["ca_path"]
    if check_mode and ca_path and not os.path.exists(ca_path):
        ca_path = None  # a task before this one would have written it
    client = Client(address, params["api_key"], params["validate_certs"], ca_path)
    wanted = Wanted(
        level=params["level"],
        model=params["model"] or None,
        api=params["api"],
        health_path=params["health_path"],
        timeout=0.0 if check_mode else params["timeout"],
        interval=params["interval"],
        request_timeout=params["request_timeout"],
        heartbeat_window=params["heartbeat_window"],
    )
    return Health(client, wanted, params["api_key"])


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        health = build_health(module.params, module.check_mode)
    except ValueError as error:
        module.fail_json(msg=str(error))
    report = health.wait()
    if report.state == READY or module.check_mode:
        module.exit_json(changed=False, **report.results())
    module.fail_json(msg=report.message, changed=False, **report.results())


if __name__ == "__main__":
    main()
