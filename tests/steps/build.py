# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The collection as users get it: built, imported as Galaxy does, installed, and run by name."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from steps.cores import cores
from steps.report import Report
from steps.surroundings import CACHE, ROOT, checkout_files, environment

WORK = CACHE / "build"
INSTALLED = WORK / "collections"
LARGEST = 1_000_000  # bytes of one file
SECRET = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bhf_[A-Za-z0-9]{30}")

GENERATED = {"MANIFEST.json", "FILES.json"}


def run(report: Report) -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    build = ("ansible-galaxy", "collection", "build", "--output-path", WORK, ROOT)
    report.command("build", *build, quiet=True)
    archive = next(WORK.glob("baremetal-vllm-*.tar.gz"), WORK / "nothing was built")
    report.check("contents", lambda: content_problems(archive))
    installed = environment(collections=INSTALLED)
    install = ("ansible-galaxy", "collection", "install", "--offline", "-p", INSTALLED, archive)
    report.command("install", *install, env=installed, quiet=True)
    report.check("galaxy-importer", lambda: importer_problems(archive, installed))
    # On the checkout: below .cache it would see no files, as git ignores them there, and pass.
    # `all` reads the documentation of a hundred collections: minutes instead of seconds.
    docs = ("antsibull-docs", "lint-collection-docs", "--plugin-docs")
    report.command("antsibull-docs", *docs, "--validate-collection-refs=self", ROOT)
    modules = [f"baremetal.vllm.{path.stem}" for path in ROOT.glob("plugins/modules/*.py")]
    playbooks = sorted(path.stem for path in ROOT.glob("playbooks/*.yml"))
    for core in cores(report):
        env = environment(core.bin, INSTALLED)
        doc = ("ansible-doc", "-t", "module", *sorted(modules))
        report.command(f"ansible-doc, core {core.release}", *doc, cwd=WORK, env=env, quiet=True)
        for inventory in ("production", "homelab"):
            check = ("ansible-playbook", "--syntax-check", "-i", ROOT / "inventories" / inventory)
            by_name = [f"baremetal.vllm.{name}" for name in playbooks]
            report.command(
                f"playbooks, installed, {inventory}, core {core.release}",
                *check,
                *by_name,
                cwd=WORK,
                env=env,
                quiet=True,
            )
            by_path = [f"playbooks/{name}.yml" for name in playbooks]
            report.command(
                f"playbooks, from a clone, {inventory}, core {core.release}",
                *check,
                *by_path,
                env=environment(core.bin),
                quiet=True,
            )


def content_problems(archive: Path) -> Iterator[str]:
    """All in the archive is known to git, small, and no secret."""
    known = {str(path) for path in checkout_files()} | GENERATED
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile():
                continue
            if member.name not in known:
                yield f"{member.name} is not in git: name it in build_ignore of galaxy.yml."
            if member.size > LARGEST:
                yield f"{member.name} has {member.size} bytes; at most {LARGEST} are allowed."
            content = tar.extractfile(member)
            if content and SECRET.search(content.read()):
                yield f"{member.name} holds a private key or a Hugging Face token."


def importer_problems(archive: Path, env: dict[str, str]) -> Iterator[str]:
    """Galaxy shows warnings to users; here they fail."""
    command = ["python", "-m", "galaxy_importer.main", str(archive)]
    done = subprocess.run(
        command,
        cwd=WORK,
        env=env,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        yield done.stdout
    else:
        for line in done.stdout.splitlines():
            # The ignored sanity test is about the licence: Apache-2.0, not GPLv3.
            if line.startswith("WARNING") and "Ignore files skip" not in line:
                yield line
