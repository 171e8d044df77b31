# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the doctor can find: codes, severities, sentences and mends, from data/doctor.json."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "data" / "doctor.json"

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One trouble of one host.

    :param severity: ``error`` (something does not work), ``warning`` (it will, or might, stop
        working) or ``note``.
    :param what: one sentence.
    :param mend: one command, or one sentence that ends with a full stop.
    """

    host: str
    severity: str
    what: str
    mend: str
    code: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Commands:
    """How the commands of the controller begin in this run."""

    play: str = "ansible-playbook playbooks"
    ansible: str = "ansible"


@functools.lru_cache(maxsize=1)
def data() -> Mapping[str, Any]:
    """The tables of the doctor."""
    content: Mapping[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return content


class Findings(list[Finding]):
    """The findings of one host."""

    def __init__(
        self, host: str, commands: Commands | None = None, by_hand: Sequence[str] = ()
    ) -> None:
        """
        :param by_hand: parts that the collection does not install there; provision.yml is no mend
            of theirs.
        """
        super().__init__()
        self._by_hand = by_hand
        self._host = host
        self._commands = commands or Commands()

    def add(self, code: str, **values: Any) -> None:
        """Note a trouble.

        :param code: a key of ``findings`` in data/doctor.json.
        :param values: what its braces are filled with.
        """
        kind = data()["findings"][code]
        values |= {"host": self._host, **asdict(self._commands)}
        mend_key = "by_hand" if kind.get("part") in self._by_hand else "mend"
        what, mend = (kind[key].format_map(values) for key in ("what", mend_key))
        self.append(Finding(self._host, kind["severity"], what, mend, code))

    def sorted(self) -> list[Finding]:
        """The worst first, else in the order in which they were found."""
        return sorted(self, key=lambda finding: SEVERITIES.index(finding.severity))
