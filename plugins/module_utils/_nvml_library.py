# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""nvidia-ml-py, packed on the controller and loaded on a host, which needs no package index.

Apart from what reads the GPUs: the controller loads this in every run, and compiles it each time.
"""

from __future__ import annotations

import base64
import importlib
import operator
import sys
import types
import typing as t
import zlib

_NAME = "pynvml"  # the module that the package nvidia-ml-py installs: one file


class State(Exception):  # noqa: N818 - says a state
    """Why there are no GPUs to report: the state and its sentence."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def pack(source: bytes) -> str:
    """Turn the source of nvidia-ml-py into text that travels as an option of the module."""
    return base64.b64encode(zlib.compress(source)).decode("ascii")


def load(packed: str) -> t.Any:
    """Return nvidia-ml-py from what pack() made, or the host's own where that is empty.

    Raises State.
    """
    whose = "controller" if packed else "host"
    try:
        library = _unpack(packed) if packed else importlib.import_module(_NAME)
        operator.attrgetter("nvmlInit", "NVMLError")(library)  # another module may bear the name
    except ModuleNotFoundError as error:
        if error.name == _NAME:
            raise State(
                "no_library",
                "The Python package nvidia-ml-py is neither on the controller nor on this host:"
                " run `pip install nvidia-ml-py` for the Python that runs ansible-playbook.",
            ) from error
        raise _unusable(whose, error) from error
    except Exception as error:  # whatever a module may do when it is loaded
        raise _unusable(whose, error) from error
    return library


def _unpack(packed: str) -> t.Any:
    code = compile(
        zlib.decompress(base64.b64decode(packed)), f"{_NAME}.py", "exec", dont_inherit=True
    )
    module = types.ModuleType(_NAME)
    sys.modules[_NAME] = module  # it looks itself up there to make its exceptions
    # It is the source that the controller sent, so nothing but a module's own code runs here.
    exec(code, module.__dict__)  # noqa: S102  # pylint: disable=exec-used
    return module


def _unusable(whose: str, error: Exception) -> State:
    return State(
        "no_library",
        f"The module {_NAME} of the {whose} is no nvidia-ml-py that runs on Python"
        f" {sys.version.split()[0]} of this host ({type(error).__name__}: {error}): install the"
        " release of nvidia-ml-py on the controller that this collection was tested with.",
    )
