"""Running a Pulumi program without an engine: what it declares, as plain values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, set_all_config, set_mocks


@dataclass(frozen=True)
class Declared:
    """One resource: its type token, its name in the program, what it was given."""

    token: str
    name: str
    inputs: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.token.rpartition(":")[2]


class Recorder(Mocks):
    """Remembers every resource."""

    def __init__(self) -> None:
        self.found: list[Declared] = []

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.found.append(Declared(args.typ, args.name, dict(args.inputs)))
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"nothing is looked up while declaring: {args.token}")


def declared(
    program: Callable[[], object],
    *,
    project: str = "test",
    stack: str = "dev",
    config: Mapping[str, Any] | None = None,
    preview: bool = False,
) -> list[Declared]:
    """All that a program declares, components left out. Whatever it raises comes out."""
    recorder = Recorder()
    asyncio.set_event_loop(asyncio.new_event_loop())
    set_mocks(recorder, project=project, stack=stack, preview=preview)
    set_all_config({key: json.dumps(value) for key, value in (config or {}).items()})

    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]
    found = [one for one in recorder.found if one.token.startswith(("kubernetes:", "pulumi:providers:"))]
    assert found, "the program declared nothing"
    return found


def one(found: list[Declared], kind: str, name: str = "") -> dict[str, Any]:
    """The one object of a kind, with the name that Kubernetes sees."""
    matching = [d.inputs for d in found if d.kind == kind and name in ("", d.inputs["metadata"]["name"])]
    assert len(matching) == 1, f"{len(matching)} of {kind} {name}"
    return matching[0]


def pods(found: list[Declared]) -> dict[str, dict[str, Any]]:
    """The spec of every pod that would run, by the name of what makes it."""
    specs = {}
    for declaration in found:
        spec = declaration.inputs.get("spec") or {}
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            specs[declaration.inputs["metadata"]["name"]] = spec["template"]["spec"]
    return specs
