"""What a program declares, put on a lab's cluster without Pulumi's CLI: by Pulumi's mocks, and by kubectl.

For tests of what runs, not of how it gets there: the CLI and its provider have tests of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import yaml

from edgefleet_pulumi.cluster.api import Api
from edgefleet_pulumi.cluster.make_secrets import make
from edgefleet_pulumi.components.site_secrets import SiteSecret
from tests.integration.pulumi_site import PROJECTS, Site, images_of
from tests.unit.pulumi.recording import declared

# What others refer to comes first.
FIRST = ("Namespace", "ServiceAccount", "ConfigMap", "PersistentVolumeClaim")
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding")
PROGRAM = "edgefleet_pulumi.program"


@contextmanager
def put(site: Site, project: str, program: Callable[[], object], **changed: object) -> Iterator[None]:
    """All that a program declares on the dev stack with some keys changed, with the secrets that it names.

    Taken away at the end, namespaces with everything in them.
    """
    content = yaml.safe_load((PROJECTS / project / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    settings = {**content["config"][f"{project}:site"], **changed}
    known = images_of(project, PROJECTS.parent / "industries", settings)
    settings["references"] = {name: site.references[name] for name in known}
    wanted: list[tuple[str, Sequence[SiteSecret]]] = []
    with (
        mock.patch(f"{PROGRAM}.make", lambda _, namespace, secrets: wanted.append((namespace, secrets))),
        mock.patch(f"{PROGRAM}.Api.of", return_value=None),
        mock.patch(f"{PROGRAM}.cluster_identity", return_value="a-lab"),
    ):
        found = declared(program, project=project, config={f"{project}:site": settings})
    objects = [
        _whole(one.inputs) for one in found if one.token.startswith("kubernetes:") and one.kind != "RuntimeClass"
    ]
    objects.sort(key=lambda one: FIRST.index(one["kind"]) if one["kind"] in FIRST else len(FIRST))
    try:
        for one in objects:
            site.apply(one)
        with mock.patch.dict("os.environ", KUBECONFIG=str(site.kubeconfig)):
            for namespace, secrets in wanted:
                make(Api.of(None), namespace, secrets)
        yield
    finally:
        for kind in ("Namespace", *CLUSTER_WIDE):
            names = [one["metadata"]["name"] for one in objects if one["kind"] == kind]
            if names:
                site.kubectl("delete", kind, "--ignore-not-found", *names)


def _whole(inputs: dict[str, Any]) -> dict[str, Any]:
    """As JSON, whose numbers are those of Kubernetes: the mocks make floats of integers."""
    document: dict[str, Any] = json.loads(json.dumps(inputs), parse_float=_number)
    return document


def _number(text: str) -> float | int:
    return int(float(text)) if float(text).is_integer() else float(text)
