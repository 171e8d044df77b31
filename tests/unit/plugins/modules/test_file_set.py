# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What file_set promises, on real directories and with real validation commands."""

from __future__ import annotations

import json
import os
import stat
import sys
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils import _file_set
from ansible_collections.baremetal.vllm.plugins.modules import file_set

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}
NOBODY = "no-such-user"


class Host:
    """A directory that stands for the host, and the module run on it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root / "host"
        self.root.mkdir()
        self.temporary = root / "temporary"
        self.temporary.mkdir()
        self._capsys = capsys

    def path(self, name: str) -> str:
        return str(self.root / name)

    def file(self, name: str, content: t.Any = "", **options: str) -> dict[str, t.Any]:
        return {"path": self.path(name), "content": content, **ME, **options}

    def directory(self, name: str, **options: str) -> dict[str, t.Any]:
        return {"path": self.path(name), **ME, **options}

    def link(self, name: str, target: str | None = None, **options: str) -> dict[str, t.Any]:
        return {"path": self.path(name), "target": target, **options}

    def run(self, check: bool = False, diff: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        internal = {
            "_ansible_check_mode": check,
            "_ansible_diff": diff,
            "_ansible_tmpdir": str(self.temporary),
        }
        with patch_module_args({**arguments, **internal}), pytest.raises(SystemExit):
            file_set.main()
        result: dict[str, t.Any] = json.loads(self._capsys.readouterr().out)
        return result

    def changes(self, **arguments: t.Any) -> list[str]:
        """Run and return the changed paths, relative to the host."""
        result = self.run(**arguments)
        assert not result.get("failed"), result["msg"]
        assert result["changed"] == bool(result["changed_paths"])
        return [os.path.relpath(path, self.root) for path in result["changed_paths"]]

    def tree(self) -> dict[str, t.Any]:
        """Return all that is on the host: contents, targets, modes."""
        found: dict[str, t.Any] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            mode = oct(stat.S_IMODE(path.lstat().st_mode))
            if path.is_symlink():
                found[name] = os.readlink(path)
            else:
                found[name] = (mode, path.read_bytes() if path.is_file() else None)
        return found


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Host:
    _file_set.user_id.cache_clear()
    return Host(tmp_path, capsys)


def script(host: Host, body: str) -> str:
    """Return a validation command that runs `body` with the candidate root in `root`."""
    path = host.temporary / "validate.py"
    path.write_text(f"import os, sys\nroot = sys.argv[1]\n{body}\n")
    return f"{sys.executable} {path} %s"


# -- what gets installed -------------------------------------------------------------------------


def test_directories_files_and_links_arrive_together(host: Host) -> None:
    release = {
        "directories": [host.directory("releases/7/plan", mode="0750")],
        "files": [host.file("releases/7/run", "#!/bin/sh\n", mode="0755")],
        "links": [host.link("current", "releases/7")],
    }
    assert host.changes(**release) == [
        "releases",
        "releases/7",
        "releases/7/plan",
        "releases/7/run",
        "current",
    ]
    assert host.tree() == {
        "current": "releases/7",
        "releases": ("0o755", None),
        "releases/7": ("0o755", None),
        "releases/7/plan": ("0o750", None),
        "releases/7/run": ("0o755", b"#!/bin/sh\n"),
    }
    assert host.changes(**release) == []


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1}',
        '{"a": 1}\n',
        "[1, 2]",
        "---\na: 1\n",
        "true",
        "",
        "no newline at the end",
        "line\r\nline\n",
        "  indented\n\n\n",
        "€ ünïcode \U0001f680 \x00 \u2028",
    ],
)
def test_content_arrives_byte_for_byte(host: Host, content: str) -> None:
    assert host.changes(files=[host.file("file", content)]) == ["file"]
    assert (host.root / "file").read_bytes() == content.encode()
    assert host.changes(files=[host.file("file", content)]) == []


@pytest.mark.parametrize("content", [{"a": 1}, [1], 7, True, None])
def test_content_that_is_no_text_is_refused(host: Host, content: t.Any) -> None:
    result = host.run(files=[host.file("file", content)])
    assert "to_json" in result["msg"]
    assert host.path("file") in result["msg"]
    assert host.tree() == {}


def test_a_mode_alone_is_a_change(host: Host) -> None:
    host.run(files=[host.file("file", "same")], directories=[host.directory("directory")])
    assert host.changes(
        files=[host.file("file", "same", mode="0600")],
        directories=[host.directory("directory", mode="0700")],
    ) == ["directory", "file"]
    assert host.tree() == {"directory": ("0o700", None), "file": ("0o600", b"same")}


def test_the_umask_does_not_matter(host: Host) -> None:
    before = os.umask(0o077)
    try:
        host.run(files=[host.file("a/file")], directories=[host.directory("a")])
    finally:
        os.umask(before)
    assert host.tree() == {"a": ("0o755", None), "a/file": ("0o644", b"")}


def test_a_secret_is_never_readable_by_others_meanwhile(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    original = os.rename

    def rename(source: str, target: str) -> None:
        modes.append(stat.S_IMODE(os.stat(source).st_mode))
        original(source, target)

    monkeypatch.setattr(os, "rename", rename)
    host.run(files=[host.file("secret", "s", mode="0600")])
    assert modes == [0o600]


def test_a_link_is_switched_and_a_link_in_place_of_a_file_is_replaced(host: Host) -> None:
    (host.root / "elsewhere").write_text("untouched")
    (host.root / "file").symlink_to("elsewhere")
    (host.root / "current").symlink_to("old")
    assert host.changes(files=[host.file("file", "mine")], links=[host.link("current", "new")]) == [
        "file",
        "current",
    ]
    tree = host.tree()
    assert tree["elsewhere"] == ("0o644", b"untouched")
    assert tree["file"] == ("0o644", b"mine")
    assert tree["current"] == "new"


def test_absent_removes_files_links_and_whole_directories(host: Host) -> None:
    (host.root / "directory/deep").mkdir(parents=True)
    (host.root / "directory/deep/file").write_text("x")
    (host.root / "file").write_text("x")
    (host.root / "link").symlink_to("directory")
    removal = {
        "files": [host.file("file", state="absent")],
        "directories": [host.directory("directory", state="absent")],
        "links": [host.link("link", state="absent")],
    }
    assert host.changes(**removal) == ["file", "link", "directory"]
    assert host.tree() == {}
    assert host.changes(**removal) == []


def test_exclusive_removes_strangers_and_only_files(host: Host) -> None:
    (host.root / "conf.d/sub").mkdir(parents=True)
    (host.root / "conf.d/default.conf").write_text("stranger")
    (host.root / "conf.d/sub/kept").write_text("kept")
    (host.root / "conf.d/link").symlink_to("sub")
    arguments = {
        "files": [host.file("conf.d/edge.conf", "mine")],
        "exclusive": [host.path("conf.d"), host.path("missing")],
    }
    assert host.changes(**arguments) == ["conf.d/edge.conf", "conf.d/default.conf"]
    assert sorted(host.tree()) == [
        "conf.d",
        "conf.d/edge.conf",
        "conf.d/link",
        "conf.d/sub",
        "conf.d/sub/kept",
    ]
    assert host.changes(**arguments) == []


def test_leftovers_of_a_killed_run_are_replaced(host: Host) -> None:
    (host.root / ".file.file_set").write_text("half of a fi")
    os.symlink("nowhere", host.root / ".current.file_set")
    host.run(files=[host.file("file", "whole")], links=[host.link("current", "new")])
    assert sorted(host.tree()) == ["current", "file"]


# -- validation ----------------------------------------------------------------------------------


def test_the_candidate_tree_holds_the_whole_set_with_final_modes(host: Host) -> None:
    (host.root / "same").write_text("same")
    report = host.temporary / "report"
    body = f"""
base = root + {str(host.root)!r}
seen = [oct(os.stat(root).st_mode & 0o777), sorted(os.listdir(base))]
seen += [oct(os.stat(base + '/new').st_mode & 0o777), open(base + '/new').read()]
open({str(report)!r}, 'w').write(repr([root, seen]))
"""
    result = host.run(
        files=[
            host.file("new", "text", mode="0640"),
            host.file("same", "same"),
            host.file("gone", state="absent"),
        ],
        directories=[host.directory("empty")],
        validate=script(host, body),
    )
    assert result["validated"] is True
    root, seen = eval(report.read_text())  # noqa: S307 - written by the script above
    assert seen == ["0o700", ["empty", "new", "same"], "0o640", "text"]
    assert not os.path.exists(root)


@pytest.mark.parametrize("check", [False, True])
def test_a_refused_set_changes_nothing(host: Host, check: bool) -> None:
    (host.root / "file").write_text("before")
    before = host.tree()
    result = host.run(
        check=check,
        files=[host.file("file", "after")],
        directories=[host.directory("directory")],
        validate=script(host, "sys.exit('unknown directive on line 3')"),
    )
    assert result["failed"] is True
    assert result["rc"] == 1
    assert "exit status 1" in result["msg"]
    assert "unknown directive on line 3" in result["msg"]
    assert result["stderr"] == "unknown directive on line 3\n"
    assert host.tree() == before
    assert sorted(os.listdir(host.temporary)) == ["validate.py"]


def test_nothing_is_validated_when_nothing_differs(host: Host) -> None:
    host.run(files=[host.file("file", "same")])
    result = host.run(files=[host.file("file", "same")], validate=script(host, "sys.exit(1)"))
    assert (result["changed"], result["validated"]) == (False, False)


def test_a_missing_validator_is_an_error_and_in_check_mode_a_warning(host: Host) -> None:
    arguments = {"files": [host.file("file", "x")], "validate": "no-such-program %s"}
    assert "no-such-program" in host.run(**arguments)["msg"]
    assert host.tree() == {}
    predicted = host.run(check=True, **arguments)
    assert (predicted["changed"], predicted["validated"]) == (True, False)
    assert "no-such-program" in json.dumps(predicted["warnings"])


@pytest.mark.parametrize(("command", "says"), [("true", "%s"), ("true '%s", "cannot be split")])
def test_a_useless_validation_command_is_refused(host: Host, command: str, says: str) -> None:
    result = host.run(files=[host.file("file")], validate=command)
    assert says in result["msg"]
    assert host.tree() == {}


# -- failures in the middle ----------------------------------------------------------------------


def occupy(host: Host, name: str) -> str:
    """Return a validation command that puts a directory where a file must go, after the plan."""
    return script(host, f"os.makedirs({host.path(name)!r} + '/occupied')")


def test_a_failure_in_the_middle_puts_everything_back(host: Host) -> None:
    (host.root / "a").write_text("before")
    (host.root / "a").chmod(0o604)
    (host.root / "b").symlink_to("a")
    (host.root / "directory").mkdir(mode=0o755)
    before = host.tree()
    result = host.run(
        directories=[host.directory("directory", mode="0700"), host.directory("new/deeper")],
        files=[host.file(name, "after") for name in ("a", "b", "new/file", "z")],
        validate=occupy(host, "z"),
    )
    assert result["msg"].startswith(f"{host.path('z')} cannot be changed: Is a directory.")
    assert "was put back" in result["msg"]
    assert host.path("a") in result["msg"]
    (host.root / "z/occupied").rmdir()
    (host.root / "z").rmdir()
    assert host.tree() == before


def test_a_failing_link_puts_files_and_links_back(host: Host) -> None:
    (host.root / "file").write_text("before")
    (host.root / "a").symlink_to("before")
    before = host.tree()
    result = host.run(
        files=[host.file("file", "after")],
        links=[host.link("a", "after"), host.link("b", "after")],
        validate=occupy(host, "b"),
    )
    assert result["msg"].startswith(f"{host.path('b')} cannot be changed")
    (host.root / "b/occupied").rmdir()
    (host.root / "b").rmdir()
    assert host.tree() == before


def test_a_failing_removal_puts_removed_files_back(host: Host) -> None:
    (host.root / "a").write_text("content")
    (host.root / "z").write_text("content")
    body = f"os.unlink({host.path('z')!r}); os.mkdir({host.path('z')!r})"
    result = host.run(
        files=[host.file("a", state="absent"), host.file("z", state="absent")],
        validate=script(host, body),
    )
    assert result["failed"] is True
    assert host.tree()["a"] == ("0o644", b"content")


def test_what_cannot_be_put_back_is_named(host: Host) -> None:
    (host.root / "directory").mkdir()
    (host.root / "directory/a").write_text("before")
    changes = _file_set.plan(
        _file_set.from_parameters(
            {
                "directories": [],
                "exclusive": [],
                "links": [],
                "files": [
                    {**host.file("directory/a", "after"), "mode": "0644", "state": "present"},
                ],
            }
        )
    )
    installation = _file_set._Installation()
    installation.run(changes)
    (host.root / "directory/a").unlink()
    (host.root / "directory").rmdir()
    sentence = installation.put_back(OSError(28, "No space left on device"))
    assert "No space left on device" in sentence
    assert f"could not be put back, mend them by hand: {host.path('directory/a')}" in sentence


# -- refusals before any change ------------------------------------------------------------------


def test_a_wrong_kind_on_the_host_is_refused_first(host: Host) -> None:
    (host.root / "directory").mkdir()
    (host.root / "file").write_text("")
    os.mkfifo(host.root / "pipe")
    before = sorted(os.listdir(host.root))
    for arguments in (
        {"files": [host.file("directory")]},
        {"files": [host.file("directory", state="absent")]},
        {"files": [host.file("pipe")]},
        {"directories": [host.directory("file")]},
        {"directories": [host.directory("file", state="absent")]},
        {"links": [host.link("file", "x")]},
        {"links": [host.link("directory", state="absent")]},
    ):
        arguments.setdefault("files", []).append(host.file("another"))
        result = host.run(**arguments)
        assert "remove it by hand first" in result["msg"], arguments
        assert sorted(os.listdir(host.root)) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"files": [{"path": "relative"}]}, "plain absolute path"),
        ({"files": [{"path": "/a/../b"}]}, "plain absolute path"),
        ({"directories": [{"path": "/a/"}]}, "plain absolute path"),
        ({"exclusive": ["a"]}, "plain absolute path"),
        ({"directories": [{"path": "/", "state": "absent"}]}, "too near to the root"),
        ({"directories": [{"path": "/var", "state": "absent"}]}, "too near to the root"),
        ({"files": [{"path": "/a", "mode": 420}]}, "'0644'"),
        ({"files": [{"path": "/a", "mode": "u=rw"}]}, "'0644'"),
        ({"files": [{"path": "/a"}], "links": [{"path": "/a", "target": "b"}]}, "given twice"),
        ({"links": [{"path": "/a"}]}, "no target"),
        (
            {
                "files": [{"path": "/a/b/c"}],
                "directories": [{"path": "/a/b", "state": "absent"}],
            },
            "drop one",
        ),
    ],
)
def test_senseless_arguments_are_refused(host: Host, arguments: t.Any, says: str) -> None:
    result = host.run(**arguments)
    assert result["failed"] is True
    assert says in result["msg"]


def test_a_missing_parent_is_refused_with_what_to_do(host: Host) -> None:
    result = host.run(files=[host.file("a"), host.file("missing/file")])
    assert "list it under directories" in result["msg"]
    assert host.tree() == {}


def test_an_unknown_owner_is_refused_before_any_change(host: Host) -> None:
    result = host.run(files=[host.file("a"), host.file("b", owner=NOBODY)])
    assert f"user '{NOBODY}'" in result["msg"]
    result = host.run(directories=[host.directory("d", group=NOBODY)])
    assert f"group '{NOBODY}'" in result["msg"]
    assert host.tree() == {}


# -- check mode and diff -------------------------------------------------------------------------


def test_check_mode_predicts_the_same_and_changes_nothing(host: Host) -> None:
    (host.root / "file").write_text("before\n")
    (host.root / "stranger").write_text("x")
    (host.root / "link").symlink_to("a")
    before = host.tree()
    arguments = {
        "directories": [host.directory("new/deep"), host.directory("gone", state="absent")],
        "files": [host.file("file", "after\n", mode="0600"), host.file("new/file", "new\n")],
        "links": [host.link("link", "b")],
        "exclusive": [str(host.root)],
        "diff": True,
    }
    predicted = host.run(check=True, **arguments)
    assert host.tree() == before
    done = host.run(**arguments)
    for key in ("changed", "changed_paths", "diff"):
        assert predicted[key] == done[key]
    assert host.run(check=True, **arguments)["changed"] is False


def test_check_mode_bears_what_earlier_tasks_would_create(host: Host) -> None:
    (host.root / "file").write_text("same")
    result = host.run(
        check=True,
        diff=True,
        files=[host.file("file", "same", owner=NOBODY), host.file("missing/file", group=NOBODY)],
    )
    assert result["changed_paths"] == [host.path("file"), host.path("missing/file")]
    assert f"-> {NOBODY}" in result["diff"][0]["prepared"]
    assert sorted(host.tree()) == ["file"]


def test_the_diff_shows_content_and_attributes(host: Host) -> None:
    (host.root / "file").write_text("old\n")
    (host.root / "mode").write_text("")
    (host.root / "gone").write_text("old\n")
    (host.root / "link").symlink_to("old")
    result = host.run(
        diff=True,
        directories=[host.directory("directory")],
        files=[
            host.file("file", "new\n"),
            host.file("mode", mode="0600"),
            host.file("gone", state="absent"),
            host.file("fresh", "x\n"),
        ],
        links=[host.link("link", "new")],
    )
    own = f"{ME['owner']}:{ME['group']}"
    assert result["diff"] == [
        {"prepared": f"{host.path('directory')}: directory created, mode 0755, {own}\n"},
        {
            "before_header": host.path("file"),
            "after_header": host.path("file"),
            "before": "old\n",
            "after": "new\n",
        },
        {"prepared": f"{host.path('mode')}: mode 0644 -> 0600\n"},
        {
            "before_header": f"{host.path('fresh')} (absent)",
            "after_header": host.path("fresh"),
            "before": "",
            "after": "x\n",
        },
        {"prepared": f"{host.path('fresh')}: file created, mode 0644, {own}\n"},
        {"prepared": f"{host.path('link')}: link to old -> link to new\n"},
        {
            "before_header": host.path("gone"),
            "after_header": f"{host.path('gone')} (absent)",
            "before": "old\n",
            "after": "",
        },
        {"prepared": f"{host.path('gone')}: removed\n"},
    ]


def test_a_huge_file_is_not_put_into_the_diff(host: Host) -> None:
    result = host.run(diff=True, files=[host.file("file", "x" * 200_000)])
    assert result["diff"][0] == {"src_larger": 104448}


@pytest.mark.parametrize("failing", [False, True])
def test_a_sensitive_set_shows_no_content(host: Host, failing: bool) -> None:
    (host.root / "file").write_text("hunter1")
    (host.root / "gone").write_text("hunter0")
    body = f"print(open(root + {host.path('file')!r}).read()); sys.exit({int(failing)})"
    result = host.run(
        diff=True,
        sensitive=True,
        files=[host.file("file", "hunter2"), host.file("gone", state="absent")],
        validate=script(host, body),
    )
    assert bool(result.get("failed")) is failing
    assert "hunter" not in json.dumps(result)
    if not failing:
        assert result["diff"][0] == {
            "prepared": f"{host.path('file')}: content changed (not shown)\n"
        }


def test_contents_stay_out_of_the_system_log_and_of_the_invocation(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(
        file_set.AnsibleModule,
        "log",
        lambda self, msg, log_args=None: logged.append(repr((msg, log_args))),
    )
    result = host.run(files=[host.file("file", "hunter2")])
    assert host.path("file") in logged[0]
    assert "hunter2" not in "".join(logged)
    assert "hunter2" not in json.dumps(result)
    if "invocation" in result:  # ansible-core 2.21 leaves it out unless INJECT_INVOCATION is set
        assert result["invocation"]["module_args"]["files"][0]["content"] == "(7 characters)"


# -- apply ---------------------------------------------------------------------------------------


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "marks"
    monkeypatch.setattr(file_set.PendingMark, "directory", str(directory))
    return directory


def test_commands_run_after_a_change_and_not_without_one(host: Host, marks: Path) -> None:
    arguments = {
        "files": [host.file("a", "1")],
        "apply": [f"cp {host.path('a')} {host.path('applied')}"],
    }
    assert host.run(**arguments)["changed"]
    assert (host.root / "applied").read_text() == "1"
    (host.root / "applied").unlink()
    assert not host.run(**arguments)["changed"]
    assert not (host.root / "applied").exists()


def test_a_command_that_failed_is_tried_again_by_the_next_run(host: Host, marks: Path) -> None:
    broken = {"files": [host.file("a", "1")], "apply": [f"cat {host.path('gate')}"]}
    failed = host.run(**broken)
    assert failed["failed"]
    assert "the next run tries it again" in failed["msg"]
    (host.root / "gate").write_text("")
    assert host.run(check=True, **broken)["changed"]
    assert host.run(**broken)["changed"]
    assert not host.run(**broken)["changed"]
    assert not marks.exists()


def test_marks_of_other_sets_stay(host: Host, marks: Path) -> None:
    broken = {"files": [host.file("a", "1")], "apply": [f"cat {host.path('gate')}"]}
    assert host.run(**broken)["failed"]
    assert host.run(files=[host.file("b", "1")], apply=["true"])["changed"]
    assert len(list(marks.iterdir())) == 1
    (host.root / "gate").write_text("")
    assert host.run(**broken)["changed"]


def test_a_program_that_is_not_there_is_named_and_tried_again(host: Host, marks: Path) -> None:
    program = host.path("program")
    missing = {"files": [host.file("a", "1")], "apply": [f"{program} --now"]}
    failed = host.run(**missing)
    assert failed["failed"]
    assert failed["msg"] == (
        f"apply: {program} --now cannot be run after the files were written: No such file or"
        f" directory; install {program}, the next run tries it again."
    )
    (host.root / "program").write_text(f"#!/bin/sh\necho $1 > {host.path('applied')}\n")
    (host.root / "program").chmod(0o755)
    assert host.run(**missing)["changed"]
    assert (host.root / "applied").read_text() == "--now\n"


def test_check_mode_applies_nothing(host: Host, marks: Path) -> None:
    touch = f"touch {host.path('applied')}"
    assert host.run(check=True, files=[host.file("a", "1")], apply=[touch])["changed"]
    assert host.tree() == {}


def test_a_sensitive_file_is_not_shown_beside_others_that_are(host: Host) -> None:
    files = [host.file("open", "seen"), {**host.file("closed", "hidden"), "sensitive": True}]
    shown = json.dumps(host.run(diff=True, files=files)["diff"])
    assert "seen" in shown
    assert "hidden" not in shown


def test_a_secret_that_is_removed_is_not_shown(host: Host) -> None:
    (host.root / "closed").write_text("hidden")
    (host.root / "open").write_text("seen")
    for name in ("closed", "open"):
        (host.root / name).chmod(0o644)
    files = [
        {**host.file("closed", state="absent"), "sensitive": True},
        host.file("open", state="absent"),
    ]
    for check in (True, False):
        shown = json.dumps(host.run(check=check, diff=True, files=files)["diff"])
        assert "seen" in shown
        assert "hidden" not in shown
        assert f"{host.path('closed')}: removed" in shown
    assert host.tree() == {}


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
@pytest.mark.parametrize("way", ["replaced", "opened", "removed", "not of the set"])
def test_what_only_its_owner_can_read_is_not_shown(host: Host, mode: int, way: str) -> None:
    (host.root / "private").write_text("hunter1")
    (host.root / "private").chmod(mode)
    sets: dict[str, dict[str, t.Any]] = {
        "replaced": {"files": [host.file("private", "hunter2", mode=f"{mode:04o}")]},
        "opened": {"files": [host.file("private", "hunter2", mode="0644")]},
        "removed": {"files": [host.file("private", state="absent")]},
        "not of the set": {"exclusive": [str(host.root)]},
    }
    result = host.run(diff=True, **sets[way])
    assert result["changed_paths"] == [host.path("private")]
    assert "hunter" not in json.dumps(result)
    assert {"prepared": f"{host.path('private')}: content changed (not shown)\n"} in result["diff"]


def test_what_its_group_can_read_is_shown(host: Host) -> None:
    (host.root / "file").write_text("before\n")
    (host.root / "file").chmod(0o640)
    shown = host.run(diff=True, files=[host.file("file", "after\n", mode="0600")])["diff"]
    assert (shown[0]["before"], shown[0]["after"]) == ("before\n", "after\n")
