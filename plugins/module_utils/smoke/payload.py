# SPDX-License-Identifier: Apache-2.0
"""What the controller hands to the host: probe modules, as one argument of the module (kilobytes, one round trip)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_module import CUSTOM_SECTION, sections


@dataclass(frozen=True)
class Compiled:
    """The probes compiled ahead of time, for one engine in one version on one architecture.

    ``version`` and ``source`` are those of the artifact that they came in.
    """

    engine: str
    engine_version: str
    arch: str
    version: str
    source: str
    modules: Mapping[str, bytes]

    def __str__(self) -> str:
        return f"{self.engine} {self.engine_version} {self.arch}"


@dataclass(frozen=True)
class Payload:
    """``no_compiled`` says why there are no compiled probes at all, if so.

    ``reference`` holds cold starts by wasmtime on the controller, by side.
    """

    nonce: str
    plain: Mapping[str, bytes]
    compiled: tuple[Compiled, ...] = ()
    no_compiled: str = ""
    reference: Mapping[str, list[float]] = field(default_factory=dict)

    def compiled_for(self, engine: str, engine_version: str | None, arch: str) -> Compiled | None:
        wanted = (engine, engine_version, arch)
        return next((one for one in self.compiled if (one.engine, one.engine_version, one.arch) == wanted), None)

    def as_argument(self) -> dict[str, Any]:
        return {
            "nonce": self.nonce,
            "plain": _encoded(self.plain),
            "compiled": [{**vars(one), "modules": _encoded(one.modules)} for one in self.compiled],
            "no_compiled": self.no_compiled,
            "reference": dict(self.reference),
        }

    @classmethod
    def of(cls, argument: Mapping[str, Any]) -> Payload:
        try:
            return cls(
                nonce=argument["nonce"],
                plain=_decoded(argument["plain"]),
                compiled=tuple(
                    Compiled(**{**one, "modules": _decoded(one["modules"])}) for one in argument["compiled"]
                ),
                no_compiled=argument["no_compiled"],
                reference=argument["reference"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SmokeError(
                f"payload is not what the action plugin makes ({error!r}): call edgefleet.wasm.wasm_smoke "
                "by this name, without payload"
            ) from error


def _encoded(modules: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode("ascii") for name, content in modules.items()}


def _decoded(modules: Mapping[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(content, validate=True) for name, content in modules.items()}


def same_module(one: bytes, other: bytes) -> bool:
    """Whether two modules are one but for custom sections: names, debug information, an engine's native code."""
    try:
        return _essence(one) == _essence(other)
    except ValueError:
        return False


def _essence(module: bytes) -> list[tuple[int, bytes]]:
    """All sections that mean something to an interpreter; ValueError if these are no sections of a module."""
    return [section for section in sections(module) if section[0] != CUSTOM_SECTION]
