# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_ready
short_description: Wait until a vLLM unit is ready, and show how far its start is
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Waits until M(baremetal.vllm.vllm_health) says on the host that vLLM is ready, and meanwhile
    prints a line for each host when M(baremetal.vllm.vllm_progress) says that its start has moved
    on, for example when a phase begins, or every few seconds while weights are loaded.
  - Gives up at once when the unit has failed, has ended three times while it should start, does
    not exist or is not running, and when the answer says that waiting cannot help (a wrong key or
    model). The last lines of its log are then in the result.
  - This is an action plugin that runs the two modules on the host.
attributes:
  check_mode:
    support: none
    description: Skipped in check mode, since nothing was started that could be waited for.
  diff_mode:
    support: none
    description: Nothing is changed.
  action:
    description: All of it is an action plugin of the same name, on the controller.
    support: full
options:
  unit:
    description: The systemd unit, with its suffix.
    type: str
    required: true
  name:
    description: What to call the instance in lines and messages.
    type: str
    required: true
  container:
    description: As O(baremetal.vllm.vllm_progress#module:container).
    type: str
  health:
    description:
      - The parameters of M(baremetal.vllm.vllm_health), such as C(url), C(api_key), C(model) and
        C(level). Its C(timeout) is set by this action for each look.
      - The value of C(api_key) is kept out of lines and results.
    type: dict
    required: true
  timeout:
    description: How long to wait, in seconds.
    type: int
    default: 1800
  prediction:
    description:
      - What the plan predicts, as C(plan.json) of a release has it. When vLLM is ready, the figures
        of its log are printed beside it; a difference of more than 3 % (and 0.5 GiB) is a warning.
      - A first start compiles the model, which takes memory that a later one has for the KV cache.
        The log says which of the two it was, and the line says which prediction is meant.
    type: dict
seealso:
  - module: baremetal.vllm.vllm_health
  - module: baremetal.vllm.vllm_progress
"""

EXAMPLES = r"""
- name: Wait until gpt-oss-20b generates tokens
  baremetal.vllm.vllm_ready:
    unit: vllm@gpt-oss-20b.service
    name: gpt-oss-20b
    container: vllm-gpt-oss-20b
    health:
      url: http://127.0.0.1:8000
      api_key: "{{ vllm_api_key }}"
      model: gpt-oss-20b
      level: token
    timeout: "{{ vllm_ready_timeout }}"
# gpu1 | gpt-oss-20b loading weights: 1 of 3 files, 12 s
# gpu1 | gpt-oss-20b ready: vLLM 0.32.0, max_model_len 8192, first token after 52 s
"""

RETURN = r"""
state:
  description: The last RV(baremetal.vllm.vllm_health#module:state), V(ready) on success.
  returned: when vllm_health answered
  type: str
  sample: ready
level_reached:
  description: The last level that vLLM reached.
  returned: when vllm_health answered
  type: str
  sample: token
version:
  description: The release of vLLM that answers.
  returned: when vllm_health answered
  type: str
  sample: 0.32.0
max_model_len:
  description: Longest context of the model in tokens.
  returned: when vllm_health answered
  type: int
  sample: 8192
model:
  description: Served name that was found.
  returned: when vllm_health answered
  type: str
  sample: gpt-oss-20b
message:
  description: The last sentence of vllm_health.
  returned: when vllm_health answered
  type: str
attempts:
  description: How many times the levels were tried in all looks.
  returned: always
  type: int
  sample: 12
elapsed:
  description:
    - Seconds for each level in the last look, as M(baremetal.vllm.vllm_health) returns them.
    - C(total) has the seconds of the whole wait.
  returned: always
  type: dict
  sample: {process: 0.004, models: 0.006, token: 0.3, total: 43.1}
phases:
  description:
    - The phases of the start with their durations in seconds, as
      RV(baremetal.vllm.vllm_progress#module:phases).
    - Empty when vLLM was ready at the first look.
  returned: always
  type: list
  elements: dict
  contains:
    phase:
      description: The phase.
      type: str
    seconds:
      description: How long it took, in seconds.
      type: float
  sample:
    - {phase: starting, seconds: 9.1}
    - {phase: loading weights, seconds: 6.4}
    - {phase: compiling, seconds: 21.0}
figures:
  description: What the log told of memory, as RV(baremetal.vllm.vllm_progress#module:figures).
  returned: always
  type: dict
comparison:
  description: The line that compares them with O(prediction); empty where nothing is compared.
  returned: success
  type: str
  sample: >-
    gpt-oss-20b on gpu1: KV cache 111.9 GiB predicted, 111.9 GiB reported (+0.0 %);
    4,341,729 tokens, 33.12x as predicted
log:
  description: The last lines of the unit and its container.
  returned: on failure
  type: list
  elements: str
"""
