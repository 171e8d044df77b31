# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Reads a job in the background and its progress file at once, for the actions that wait."""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def _json_of(path: str) -> dict[str, t.Any]:
    """Return a file's JSON object; empty while the file is absent or not yet whole."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def exit_with_job(module: AnsibleModule, does: str) -> None:
    """End a module with what its `job` and its `progress_file` say; `does` is what the job does.

    The files of a finished job are removed.
    """
    job_name, directory = module.params["job"], module.params["async_dir"]
    job_file = os.path.join(directory, os.path.basename(job_name))
    if not os.path.exists(job_file):
        module.fail_json(
            msg=f"There is no job {job_name} in {directory} that {does}; start it with async and "
            "poll=0, as the same user, and wait for it once."
        )
    job = _json_of(job_file)
    # The wrapper writes {started, finished: false} first and the module's own result last.
    finished = bool(job) and ("started" not in job or bool(job.get("finished")))
    status = _json_of(module.params["progress_file"])
    if finished:
        for path in (job_file, module.params["progress_file"]):
            with contextlib.suppress(OSError):
                os.unlink(path)
    module.exit_json(
        changed=False, finished=finished, job_result=job if finished else {}, status=status
    )
