# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How a check tells all its problems at once."""

from __future__ import annotations

from typing import Any


def report(
    problems: list[str], subject: str, untouched: str = "nothing was changed"
) -> dict[str, Any]:
    """Problems as the result of a task that never changes anything.

    :param untouched: what has not been changed by the run either.
    """
    if not problems:
        return {"changed": False}
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return {
        "changed": False,
        "failed": True,
        "msg": "\n".join([f"{count} in {subject}; {untouched}:", *problems]),
    }
