"""What may run on a cluster: the policies of `policies/`, given to Gatekeeper and to the API server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi_kubernetes import apiextensions, meta

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.model.errors import ModelError
from edgefleet_pulumi.model.load import ROOT

FOLDER = ROOT / "policies"
_LABELS = {pods.PART_OF: "platform"}
# The manager makes a kind of each template; constraints are of that kind.
_MADE = {"pulumi.com/waitFor": "jsonpath={.status.created}=true"}
Document = dict[str, Any]


@dataclass(frozen=True)
class PolicyFiles:
    """The documents of a folder that is laid out as `policies/`."""

    templates: Sequence[Document]
    constraints: Sequence[Document]
    # What Gatekeeper keeps of the cluster for constraints that look at other objects, too.
    sync: Document
    # ValidatingAdmissionPolicies and their bindings: they hold where Gatekeeper is not running.
    built_in: Sequence[Document]

    @classmethod
    def read(cls, folder: Path = FOLDER) -> PolicyFiles:
        """All of them; a ModelError names the file that is missing or no YAML."""
        names = sorted(path.parent.name for path in folder.glob("*/template.yaml"))
        if not names:
            raise ModelError(f"{folder}: no <policy>/template.yaml in it")
        (sync,) = _documents(folder / "sync.yaml")
        return cls(
            templates=[one for name in names for one in _documents(folder / name / "template.yaml")],
            constraints=[one for name in names for one in _documents(folder / name / "constraint.yaml")],
            sync=sync,
            built_in=[one for path in sorted(folder.glob("admission/*.yaml")) for one in _documents(path)],
        )

    def kinds(self) -> list[tuple[str, str]]:
        """API group and kind of everything that a constraint looks at or has kept."""
        found = {
            (group, kind)
            for one in self.constraints
            for match in one["spec"]["match"]["kinds"]
            for group in match["apiGroups"]
            for kind in match["kinds"]
        }
        return sorted(found | {(one["group"], one["kind"]) for one in self.sync["spec"]["sync"]["syncOnly"]})


def _documents(path: Path) -> Iterator[Document]:
    try:
        text = path.read_text(encoding="utf-8")
        yield from (one for one in yaml.safe_load_all(text) if one)
    except (OSError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: can't be read: {error}") from error


class Policies(Component):
    """Templates, then their constraints, in Gatekeeper; the built-in policies need nothing but the API server."""

    def __init__(
        self,
        name: str,
        files: PolicyFiles,
        gatekeeper: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(name, opts)
        for one in files.built_in:
            _object(one, self.own())
        after = self.own(after=gatekeeper)
        made = {one["metadata"]["name"]: _object(one, after, _MADE) for one in files.templates}
        _object(files.sync, after)
        for one in files.constraints:
            _object(one, self.own(after=[made[one["kind"].lower()]]))
        self.register_outputs({"kinds": [list(kind) for kind in files.kinds()]})


def _object(
    document: Document, opts: pulumi.ResourceOptions, annotations: dict[str, str] | None = None
) -> apiextensions.CustomResource:
    """An object as its file has it, with the project's labels."""
    given = document["metadata"]
    return apiextensions.CustomResource(
        f"{document['kind']}-{given['name']}",
        api_version=document["apiVersion"],
        kind=document["kind"],
        metadata=meta.v1.ObjectMetaArgs(
            name=given["name"],
            namespace=given.get("namespace"),
            labels=_LABELS,
            annotations={**given.get("annotations", {}), **(annotations or {})} or None,
        ),
        spec=document["spec"],
        opts=opts,
    )
