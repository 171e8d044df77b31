# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the module says; what goes and what stays is in module_utils/test_prune.py."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.modules import vllm_prune
from ansible_collections.baremetal.vllm.tests.unit.prune_host import FAMILIAR, A, B, Host, digest

RETURNED = yaml.safe_load(vllm_prune.RETURN)


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    host.docker.close()


@pytest.fixture
def run(host, capsys):
    """Run the module on the host; return its result."""

    def run_module(check_mode=False, **arguments):
        arguments.setdefault("state_directory", str(host.state))
        arguments.setdefault("models_directory", str(host.store))
        arguments.setdefault("socket", host.docker.socket_path)
        arguments["_ansible_check_mode"] = check_mode
        with patch_module_args(arguments), pytest.raises(SystemExit):
            vllm_prune.main()
        return json.loads(capsys.readouterr().out)

    return run_module


@pytest.fixture
def image(host):
    """Have a bit of everything that goes; return the id of the image."""
    host.release("chat", "new", [], in_force=True, image="1")
    host.release("chat", "before", [], age=10, image="2")
    host.release("chat", "first", [], age=20, image="2")
    host.model(A)
    host.partial(B)
    (host.store / "hub").mkdir()
    return host.docker.image("3")


def test_it_lists_and_changes_nothing_unless_told_to(run, host, image):
    before = host.tree()
    result = run()
    assert not result["changed"]
    assert not result["removed"]
    assert host.tree() == before


def test_what_it_lists_is_as_documented(run, host, image):
    result = run()
    lists = ("releases", "models", "partial", "images")
    assert {*lists, "unknown", "bytes", "removed"} == set(RETURNED)
    for key in ("releases", "models", "images", "unknown"):
        assert set(result[key][0]) == set(RETURNED[key]["sample"][0])
    assert [each["name"] for key in (*lists, "unknown") for each in result[key]] == [
        "chat/first",
        f"org/name@{A}",
        f"org/name@{B}",
        f"{FAMILIAR}@{digest('3')}",
        "hub",
    ]
    assert result["images"][0]["id"] == image
    assert result["bytes"] == sum(each["bytes"] for key in lists for each in result[key]) > 5500


def test_it_removes_what_it_lists(run, host, image):
    listed, result = run(), run(remove=True)
    assert result["changed"]
    assert result["removed"]
    expected = {**listed, "removed": True, "changed": True}
    assert {name: result[name] for name in expected if name != "invocation"} == {
        name: value for name, value in expected.items() if name != "invocation"
    }
    again = run(remove=True)
    assert not again["changed"]
    assert not again["removed"]
    assert again["bytes"] == 0


def test_check_mode_says_that_it_would_remove(run, host, image):
    before = host.tree()
    result = run(check_mode=True, remove=True)
    assert result["changed"]
    assert not result["removed"]
    assert host.tree() == before
    assert len(host.docker.images) == 1


def test_check_mode_says_that_nothing_is_to_do(run):
    assert not run(check_mode=True, remove=True)["changed"]


def test_check_mode_fails_where_the_run_would(run, host, image):
    host.docker.close()
    assert "Nothing is removed" in run(check_mode=True, remove=True)["msg"]


def test_the_releases_that_stay_are_counted(run, image):
    assert [each["name"] for each in run(keep_releases=0)["releases"]] == [
        "chat/before",
        "chat/first",
    ]


def test_a_silent_docker_is_a_warning(run, host, image):
    host.docker.close()
    result = run()
    assert result["models"]
    assert result["images"] == []
    assert "docker.sock" in str(result["warnings"])


def test_an_image_that_docker_keeps_is_a_warning_and_no_change(run, host):
    host.release("chat", "new", [], in_force=True, image="1")
    host.docker.children.add(host.docker.image("3"))
    result = run(remove=True)
    assert not result["changed"]
    assert "unable to delete" in str(result["warnings"])


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("state_directory", "/", "below the root"),
        ("state_directory", "vllm", "absolute path"),
        ("models_directory", "/srv/..", "below the root"),
        ("keep_releases", -1, "from 0"),
    ],
)
def test_what_makes_no_sense_is_refused(run, host, option, value, allowed):
    result = run(**{option: value})
    assert result["failed"]
    assert result["msg"].startswith(f"{option}: ")
    assert allowed in result["msg"]


def test_what_cannot_be_removed_is_told(run, host):
    partial = host.partial(B)
    partial.with_name(".trash").write_text("mine")
    result = run(remove=True)
    assert result["failed"]
    assert ".trash cannot be read or removed" in result["msg"]
    assert partial.is_dir()
