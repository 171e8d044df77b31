# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Waits until a vLLM unit is ready, with a display; documented in modules/vllm_ready.py."""

from __future__ import annotations

import time
import typing as t

from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.baremetal.vllm.plugins.module_utils._startup_log import CAPTURING, LOADING
from ansible_collections.baremetal.vllm.plugins.plugin_utils._comparison import compare
from ansible_collections.baremetal.vllm.plugins.plugin_utils._progress_display import (
    ProgressDisplay,
    pauses,
)

HEALTH = "baremetal.vllm.vllm_health"
PROGRESS = "baremetal.vllm.vllm_progress"

# Waiting cannot help with these answers of vllm_health.
FINAL_STATES = ("unauthorised", "wrong_model")
# Seconds that one look with vllm_health may take; once the model is listed, the first token may
# need longer, since kernels are compiled for it.
LOOK = 3.0
LOOK_FOR_TOKEN = 60.0
MOST_RESTARTS = 3
LOG_LINES = 15

_STEPS = {LOADING: "files", CAPTURING: "graphs"}
_HEALTH_VALUES = (
    *("state", "level_reached", "attempts", "elapsed", "version", "max_model_len", "model"),
    "message",
)


class NotReady(Exception):  # noqa: N818 - says a state
    """The wait is over without success; the text is the sentence for the operator."""


def start_text(name: str, progress: t.Mapping[str, t.Any], restarts: int) -> str:
    """Return what is known of a start, without the host."""
    phase = progress["phase"]
    if progress["unit_state"]["sub_state"] == "auto-restart":
        phase = f"ended with exit status {progress['unit_state']['exit_status']}, starts again"
    parts = []
    if progress.get("total"):
        parts.append(f"{progress['done']} of {progress['total']} {_STEPS.get(phase, 'steps')}")
    if progress.get("gib"):
        parts.append(f"{progress['gib']:.2f} GiB")
    if restarts:
        parts.append("restarted once" if restarts == 1 else f"restarted {restarts} times")
    parts.append(f"{progress['elapsed']:.0f} s")
    return f"{name} {phase}: {', '.join(parts)}"


def ready_text(name: str, health: t.Mapping[str, t.Any], after: float | None) -> str:
    """Return the last line; `after` is the time from the unit's start, None if it was ready."""
    facts = [f"vLLM {health['version']}"] if health.get("version") else []
    if health.get("max_model_len"):
        facts.append(f"max_model_len {health['max_model_len']}")
    token = (health.get("elapsed") or {}).get("token")
    if after is None:
        facts.append("already up" if token is None else f"a token in {token:.1f} s")
    else:
        facts.append(f"{'ready' if token is None else 'first token'} after {after:.0f} s")
    return f"{name} ready: {', '.join(facts)}"


def judge_health(look: t.Mapping[str, t.Any], seconds: float) -> None:
    """Raise NotReady if waiting cannot change this answer of vllm_health within `seconds`."""
    if "state" not in look:
        raise NotReady(f"health: {look.get('msg', 'vllm_health gave no answer.')}")
    # Before its time is over, vllm_health gives up only on what cannot mend itself.
    gave_up = look["state"] == "error" and look["elapsed"]["total"] < seconds
    if look["state"] in FINAL_STATES or gave_up:
        raise NotReady(look["message"])


def judge_progress(look: t.Mapping[str, t.Any]) -> None:
    """Raise NotReady if the host could not tell how far the start is."""
    if "unit_state" not in look:
        raise NotReady(look.get("msg", "vllm_progress gave no answer."))


class UnitWatch:
    """Judges the unit's state from look to look. Raises NotReady when it will not come up."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._first_restarts: int | None = None
        self._was_inactive = False
        self._last_end = "no exit status was seen"
        self.restarts = 0

    def judge(self, progress: t.Mapping[str, t.Any]) -> None:
        """Take in one look of vllm_progress."""
        state = progress["unit_state"]
        if self._first_restarts is None:
            self._first_restarts = state["restarts"]
        self.restarts = max(0, state["restarts"] - self._first_restarts)
        if state["load_state"] == "not-found":
            raise NotReady(
                f"There is no unit {self._unit} on this host; install it before waiting for it."
            )
        # A main process that runs again has no exit status, so the last one is kept.
        if state["result"] != "success" or state["exit_status"] != 0:
            self._last_end = f"result {state['result']}, exit status {state['exit_status']}"
        seen = self._last_end
        read = f"read `journalctl -u {self._unit}`, whose last lines are in log"
        if state["active_state"] == "failed":
            raise NotReady(f"Unit {self._unit} has failed ({seen}); {read}.")
        if self.restarts >= MOST_RESTARTS:
            raise NotReady(
                f"Unit {self._unit} ended {self.restarts} times while it should start ({seen}); "
                f"{read}."
            )
        inactive = state["active_state"] == "inactive"
        if inactive and self._was_inactive:
            raise NotReady(f"Unit {self._unit} is not running ({seen}); start it, or {read}.")
        self._was_inactive = inactive


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Asks vllm_health for the truth and vllm_progress for the story, until one settles it."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "unit": {"type": "str", "required": True},
                "name": {"type": "str", "required": True},
                "container": {"type": "str"},
                "health": {"type": "dict", "required": True},
                "timeout": {"type": "int", "default": 1800},
                "prediction": {"type": "dict"},
            }
        )
        if self._task.check_mode:
            result.update(skipped=True, msg="Nothing is waited for in check mode.")
            return result
        host = str(self._vars.get("inventory_hostname", "host"))
        self._health_arguments: dict[str, t.Any] = arguments["health"]
        self._display = ProgressDisplay(self._show, host)
        try:
            result.update(self._wait(arguments))
            if not result.get("failed"):
                self._compare(f"{arguments['name']} on {host}", arguments["prediction"], result)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return t.cast("dict[str, t.Any]", self._censored(result))

    def _censored(self, value: t.Any) -> t.Any:
        """Return `value` without the API key, which vLLM or a web server might have echoed."""
        secret = str(self._health_arguments.get("api_key") or "")
        return remove_values(value, [secret] if secret else [])

    def _show(self, line: str) -> None:
        Display().display(self._censored(line))

    def _wait(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        name, unit, timeout = arguments["name"], arguments["unit"], arguments["timeout"]
        start = time.monotonic()
        watch = UnitWatch(unit)
        health: dict[str, t.Any] = {}
        progress: dict[str, t.Any] = {}
        attempts = 0
        of_progress = {
            "unit": unit,
            "container": arguments["container"],
            "log_lines": LOG_LINES,
        }
        result: dict[str, t.Any] = {"changed": False}
        try:
            for pause in pauses():
                began = time.monotonic()
                listed = health.get("level_reached") in ("models", "token")
                left = max(0.0, start + timeout - began)
                seconds = min(LOOK_FOR_TOKEN if listed else LOOK, left)
                health = self._look(HEALTH, {**self._health_arguments, "timeout": seconds})
                judge_health(health, seconds)
                attempts += health["attempts"]
                ready = health["state"] == "ready"
                if ready and not progress:
                    if arguments["prediction"]:
                        progress = self._look(PROGRESS, of_progress)
                    self._display.line(ready_text(name, health, None))
                    break
                progress = self._look(PROGRESS, of_progress)
                judge_progress(progress)
                if ready:
                    self._display.line(ready_text(name, health, progress["elapsed"]))
                    break
                watch.judge(progress)
                self._show_progress(name, progress, watch.restarts)
                if time.monotonic() - start >= timeout:
                    raise NotReady(
                        f"{name} was not ready within {timeout} seconds; {progress['elapsed']:.0f} "
                        f"seconds after its start it was {progress['phase']}, so raise timeout if "
                        f"it only needs longer: {health['message']}"
                    )
                time.sleep(max(0.0, pause - (time.monotonic() - began)))
        except NotReady as error:
            result.update(failed=True, msg=str(error), log=progress.get("log", []))
        result.update({key: health[key] for key in _HEALTH_VALUES if key in health})
        result["phases"] = progress.get("phases", [])
        result["figures"] = progress.get("figures", {})
        result["attempts"] = attempts
        total = round(time.monotonic() - start, 1)
        result["elapsed"] = {**(health.get("elapsed") or {}), "total": total}
        return result

    def _compare(
        self, who: str, prediction: dict[str, t.Any] | None, result: dict[str, t.Any]
    ) -> None:
        """Print what was predicted beside what the log says; a difference is a warning only."""
        comparison = compare(who, prediction, result["figures"])
        result["comparison"] = comparison.line
        if comparison.warning:
            Display().warning(comparison.warning)
        elif comparison.line:
            self._show(comparison.line)

    def _look(self, module_name: str, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        look: dict[str, t.Any] = self._execute_module(
            module_name=module_name, module_args=arguments, task_vars=self._vars
        )
        return look

    def _show_progress(self, name: str, progress: dict[str, t.Any], restarts: int) -> None:
        step = (progress["phase"], progress["unit_state"]["sub_state"], restarts)
        numbers = (progress["done"], progress["gib"])
        text = start_text(name, progress, restarts)
        self._display.update(time.monotonic(), step, numbers, text)
