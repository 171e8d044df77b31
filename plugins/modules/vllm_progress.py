#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_progress
short_description: Read how far the start of a vLLM unit is
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Reads the state of a systemd unit and the journal of its present invocation once, and tells
    in which phase of its start vLLM is.
  - Whether vLLM can be used is not for the log to say, see M(baremetal.vllm.vllm_health).
    M(baremetal.vllm.vllm_ready) waits with both and displays the phases.
attributes:
  check_mode:
    support: full
    description: The module only reads.
  diff_mode:
    support: none
    description: Nothing is changed.
  idempotent:
    support: full
    description: Nothing is changed.
options:
  unit:
    description: The systemd unit, with its suffix.
    type: str
    required: true
  container:
    description:
      - The name of the unit's container. Give it where the engine itself writes the container's
        output to the journal (Docker's logging driver C(journald)), with the container's name
        on it rather than the unit's.
    type: str
  log_lines:
    description: How many of the last lines of the unit and its container to return.
    type: int
    default: 15
seealso:
  - module: baremetal.vllm.vllm_ready
  - module: baremetal.vllm.vllm_health
"""

EXAMPLES = r"""
- name: See how far the start is
  baremetal.vllm.vllm_progress:
    unit: vllm@gpt-oss-20b.service
    container: vllm-gpt-oss-20b
  register: progress
"""

RETURN = r"""
phase:
  description:
    - The phase of the start, V(starting), V(downloading weights), V(loading weights),
      V(compiling), V(capturing graphs), V(starting the server) or V(serving).
    - vLLM does not log a download, so V(downloading weights) holds from the moment it opens a
      model that is no local directory until the first of its weights is loaded.
  returned: success
  type: str
  sample: loading weights
done:
  description: Steps of the phase that are done (files of weights, graphs), where the log says it.
  returned: success
  type: int
  sample: 1
total:
  description: Steps of the phase.
  returned: success
  type: int
  sample: 3
gib:
  description: GiB that the log names in this phase (of the checkpoint, of the loaded model).
  returned: success
  type: float
  sample: 13.4
seconds:
  description: The duration that the log named last in this phase, in seconds.
  returned: success
  type: float
  sample: 5.2
elapsed:
  description: Seconds since this invocation of the unit began.
  returned: success
  type: float
  sample: 31.5
phases:
  description: The phases so far with their durations. V(serving) ends the start and is not listed.
  returned: success
  type: list
  elements: dict
  contains:
    phase:
      description: The phase, as in RV(phase).
      type: str
    seconds:
      description: How long it took, or has taken so far, in seconds.
      type: float
  sample:
    - {phase: starting, seconds: 9.1}
    - {phase: loading weights, seconds: 6.4}
figures:
  description:
    - What the log tells of memory so far. A figure that it has not told has no key.
    - Of several tensor parallel workers the least KV cache and the most weights count.
  returned: success
  type: dict
  contains:
    weights_gib:
      description: C(Model loading took), GiB on one GPU.
      type: float
    kv_gib:
      description: C(Available KV cache memory), GiB on one GPU; what the CPU engine was given.
      type: float
    kv_tokens:
      description: C(KV cache size) in tokens.
      type: int
    max_model_len:
      description: The context in tokens that C(max_concurrency) is for.
      type: int
    max_concurrency:
      description: C(Maximum concurrency), requests of that context at once.
      type: float
    compiled:
      description:
        - Whether the model was compiled, V(true), or its graphs came from torch.compile's cache.
      type: bool
  sample:
    weights_gib: 13.03
    kv_gib: 111.94
    kv_tokens: 4341729
    max_model_len: 131072
    max_concurrency: 33.12
    compiled: true
unit_state:
  description: What systemd says of the unit.
  returned: success
  type: dict
  contains:
    load_state:
      description: C(LoadState), V(not-found) for a unit that does not exist.
      type: str
    active_state:
      description: C(ActiveState).
      type: str
    sub_state:
      description: C(SubState).
      type: str
    result:
      description: C(Result), for instance V(success), V(exit-code) or V(start-limit-hit).
      type: str
    restarts:
      description: C(NRestarts), how often systemd restarted it by itself.
      type: int
    exit_status:
      description: C(ExecMainStatus), the last exit status of the main process.
      type: int
    invocation_id:
      description: C(InvocationID).
      type: str
  sample:
    load_state: loaded
    active_state: active
    sub_state: running
    result: success
    restarts: 0
    exit_status: 0
    invocation_id: 4c58b1d34a3c4d11b1a4b6f0a4c6a6a1
log:
  description: The last lines of the unit and its container, oldest first, of any invocation.
  returned: success
  type: list
  elements: str
"""

import json
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._startup_log import (
    figures_of,
    phases_of,
    pieces_of,
)

_PROPERTIES = {
    "LoadState": "load_state",
    "ActiveState": "active_state",
    "SubState": "sub_state",
    "Result": "result",
    "NRestarts": "restarts",
    "ExecMainStatus": "exit_status",
    "InvocationID": "invocation_id",
}
_NUMBERS = ("NRestarts", "ExecMainStatus")
# More than a start writes at the log level INFO (about 200 lines for each worker of eight).
_MOST_ENTRIES = 5000


def parse_properties(text: str) -> dict[str, str]:
    """Return the properties that `systemctl show` printed."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_entries(text: str) -> list[tuple[float, str]]:
    """Return (seconds since the epoch, message) for each entry of `journalctl -o json`.

    A message with unprintable characters, such as a bar drawn with carriage returns, comes as a
    list of bytes; one that is too long comes as null.
    """
    entries = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            moment = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, KeyError, TypeError):
            continue
        message = entry.get("MESSAGE")
        if isinstance(message, list) and all(isinstance(byte, int) for byte in message):
            message = bytes(message).decode("utf-8", "replace")
        if isinstance(message, str):
            entries.append((moment, message))
    return entries


def _unit_properties(module: AnsibleModule, unit: str) -> dict[str, str]:
    wanted = [*_PROPERTIES, "InactiveExitTimestamp"]
    command = ["systemctl", "show", "--timestamp=unix", f"--property={','.join(wanted)}", unit]
    rc, out, err = module.run_command(command)
    if rc != 0:
        module.fail_json(
            msg=f"systemd does not show unit {unit} ({err.strip()}); systemd 248 or newer must run "
            "on this host, and unit must be the name of a unit with its suffix."
        )
    return parse_properties(out)


def _journal(module: AnsibleModule, *arguments: str) -> list[tuple[float, str]]:
    """Return journal entries; a journal that cannot be read is an empty one: display only."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE"]
    rc, out, _err = module.run_command([*command, *arguments])
    return parse_entries(out) if rc == 0 else []


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "container": {"type": "str"},
            "log_lines": {"type": "int", "default": 15},
        },
        supports_check_mode=True,
    )
    unit, container = module.params["unit"], module.params["container"]
    shown = _unit_properties(module, unit)
    now = time.time()
    started = float(shown.get("InactiveExitTimestamp", "").lstrip("@") or now)
    # `+` joins the alternatives: the unit's own output, or what Docker wrote for its container.
    of_container = ["+", f"CONTAINER_NAME={container}"] if container else []
    entries: list[tuple[float, str]] = []
    if shown.get("InvocationID"):
        invocation = f"_SYSTEMD_INVOCATION_ID={shown['InvocationID']}"
        since = [f"--since=@{started:.0f}", f"--lines={_MOST_ENTRIES}"]
        entries = _journal(module, *since, invocation, *of_container)
    progress, phases = phases_of(entries, started, now)

    count = module.params["log_lines"]
    of_unit = [f"_SYSTEMD_UNIT={unit}", "+", "_PID=1", f"UNIT={unit}"]
    last = _journal(module, f"--lines={count}", *of_unit, *of_container)
    lines = [piece for _moment, message in last for piece in pieces_of(message)[-1:]]

    state: dict[str, t.Any] = {
        key: int(shown.get(name) or 0) if name in _NUMBERS else shown.get(name, "")
        for name, key in _PROPERTIES.items()
    }
    module.exit_json(
        changed=False,
        phase=progress.phase,
        done=progress.done,
        total=progress.total,
        gib=progress.gib,
        seconds=progress.seconds,
        elapsed=round(max(0.0, now - started), 1),
        phases=[time_of._asdict() for time_of in phases],
        figures=figures_of(piece for _moment, message in entries for piece in pieces_of(message)),
        unit_state=state,
        log=lines[-count:] if count > 0 else [],
    )


if __name__ == "__main__":
    main()
