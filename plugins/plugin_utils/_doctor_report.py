# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Findings as a person reads them, as JSON, and as an exit status."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import (
    SEVERITIES,
    Finding,
)

WIDTH = 100  # of a terminal, in characters
FAIL_ON = ("error", "warning", "never")

_INDENT = "  "
_GAP = "  "
_LEGEND = (
    "Below each trouble is what mends it: commands that begin with ansible are for this machine,"
    " all others for a root shell of the host."
)


def table(findings: Sequence[Finding], hosts: Sequence[str], width: int = WIDTH) -> str:
    """Host, severity and trouble in columns, and the mend on a line of its own to copy from.

    :param hosts: names of all hosts that were looked at.
    """
    if not findings:
        return f"{_hosts(len(hosts))} looked at, nothing found.\n"
    name = max(len("host"), *(len(finding.host) for finding in findings))
    severity = max(map(len, ("severity", *SEVERITIES)))
    what = max(40, width - len(_INDENT) - name - severity - 2 * len(_GAP))
    before = _INDENT + " " * (name + severity + 2 * len(_GAP))
    lines = [
        _row("host", "severity", "what is wrong, and what mends it", name, severity),
        _row("-" * name, "-" * severity, "-" * what, name, severity),
    ]
    for finding in findings:
        first, *rest = textwrap.wrap(finding.what, what, break_on_hyphens=False)
        lines.append(_row(finding.host, finding.severity, first, name, severity))
        lines += [before + line for line in rest]
        lines += _mend(finding.mend, before, what)
    well = sorted(set(hosts) - {finding.host for finding in findings})
    lines += ["", *textwrap.wrap(_LEGEND, width, initial_indent=_INDENT, subsequent_indent=_INDENT)]
    if well:
        lines.append(f"{_INDENT}Nothing found on {', '.join(well)}.")
    return "\n".join(lines) + "\n"


def _row(host: str, severity: str, what: str, name: int, width: int) -> str:
    return f"{_INDENT}{host:<{name}}{_GAP}{severity:<{width}}{_GAP}{what}".rstrip()


def _mend(mend: str, before: str, width: int) -> list[str]:
    """A command is never broken, however long it is."""
    if not mend.endswith("."):
        return [before + _INDENT + mend]
    wrapped = textwrap.wrap(mend, width - len(_INDENT), break_on_hyphens=False)
    return [before + _INDENT + line for line in wrapped]


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"


def as_json(findings: Iterable[Finding], hosts: Sequence[str]) -> dict[str, Any]:
    """``hosts`` (names), ``counts`` by severity, and ``findings``."""
    found = list(findings)
    return {
        "hosts": list(hosts),
        "counts": counts(found),
        "findings": [finding.as_json() for finding in found],
    }


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {
        severity: sum(finding.severity == severity for finding in findings)
        for severity in SEVERITIES
    }


def failure(findings: Sequence[Finding], fail_on: str) -> str:
    """The sentence that ends the run, empty where it ends well.

    :param fail_on: one of ``FAIL_ON``: the mildest severity that fails.
    """
    if fail_on == "never":
        return ""
    counted = counts(findings)
    failing = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    if not any(counted[severity] for severity in failing):
        return ""
    told = [
        f"{count} {severity}{'s' if count > 1 else ''}"
        for severity, count in counted.items()
        if count
    ]
    return f"The doctor found {', '.join(told)}; see the table above."
