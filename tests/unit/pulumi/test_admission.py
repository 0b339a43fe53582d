"""Gatekeeper and the policies as the platform declares them: nothing that a site could not boot without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgefleet_pulumi.components import gatekeeper
from edgefleet_pulumi.components.gatekeeper import Gatekeeper, GatekeeperArgs
from edgefleet_pulumi.components.policies import Policies, PolicyFiles
from edgefleet_pulumi.model import ModelError
from tests.unit.pulumi.recording import Declared, declared, one, pods

FILES = PolicyFiles.read()


def args(**changed: Any) -> GatekeeperArgs:
    return GatekeeperArgs(**{"image": "registry.example.com/gatekeeper:1", "kinds": FILES.kinds(), **changed})


@pytest.fixture(scope="module")
def found() -> list[Declared]:
    def program() -> None:
        engine = Gatekeeper("c", args())
        Policies("p", FILES, [engine.deployment])

    return declared(program)


def webhooks(found: list[Declared]) -> list[dict[str, Any]]:
    hooks: list[dict[str, Any]] = one(found, "ValidatingWebhookConfiguration")["webhooks"]
    return hooks


def test_no_webhook_can_keep_a_site_from_booting(found: list[Declared]) -> None:
    hooks = webhooks(found)
    assert {hook["name"].split(".")[0] for hook in hooks} == {"validation", "check-ignore-label"}
    for hook in hooks:
        assert hook["failurePolicy"] == "Ignore"
        assert hook["timeoutSeconds"] <= 3
        (namespaces,) = hook["namespaceSelector"]["matchExpressions"]
        assert namespaces["operator"] == "NotIn"
        assert set(namespaces["values"]) == {"kube-system", "gatekeeper-system"}


def test_all_that_constraints_look_at_is_sent_and_may_be_read_and_nothing_else(found: list[Declared]) -> None:
    judged = {(group, kind) for one in FILES.constraints for match in one["spec"]["match"]["kinds"]
              for group in match["apiGroups"] for kind in match["kinds"]}  # fmt: skip
    sent = {
        (group, resource)
        for rule in webhooks(found)[0]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if not group.endswith(".gatekeeper.sh")
    }
    assert {(group, resource) for group, kind in judged for resource in gatekeeper.KINDS[group, kind]} == sent
    assert ("", "pods/ephemeralcontainers") in sent
    everywhere = one(found, "ClusterRole")["rules"]
    assert not [rule for rule in everywhere if "*" in rule["apiGroups"]]
    assert not [rule for rule in everywhere if rule["apiGroups"] == [""] and {"secrets", "*"} & set(rule["resources"])]


def test_it_is_as_little_privileged_as_every_other_pod_but_for_its_account(found: list[Declared]) -> None:
    (spec,) = pods(found).values()
    assert spec["serviceAccountName"] == "gatekeeper"
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert {"--operation=webhook", "--operation=audit", "--operation=status"} <= set(container["args"])
    assert not [word for word in container["args"] if "mutation" in word]


def test_every_policy_is_there_and_waits_for_its_kind(found: list[Declared]) -> None:
    templates = [d.inputs for d in found if d.kind == "ConstraintTemplate"]
    constraints = [d.inputs for d in found if d.token.startswith("kubernetes:constraints.gatekeeper.sh/")]
    assert len(templates) == len(constraints) == len(FILES.templates) > 0
    assert all(
        t["metadata"]["annotations"]["pulumi.com/waitFor"] == "jsonpath={.status.created}=true" for t in templates
    )
    assert {c["kind"].lower() for c in constraints} == {t["metadata"]["name"] for t in templates}
    built_in = [d for d in found if d.kind == "ValidatingAdmissionPolicy"]
    assert {d.inputs["metadata"]["name"] for d in built_in} == {
        "edgefleet-no-host-access",
        "edgefleet-wasm-runtime-class",
    }


def test_definitions_are_those_that_the_manager_stores(found: list[Declared]) -> None:
    stored = {
        d.inputs["metadata"]["name"]: [v["name"] for v in d.inputs["spec"]["versions"] if v["storage"]]
        for d in found
        if d.kind == "CustomResourceDefinition"
    }
    assert stored == {
        "configs.config.gatekeeper.sh": ["v1alpha1"],
        "constraintpodstatuses.status.gatekeeper.sh": ["v1beta1"],
        "constrainttemplatepodstatuses.status.gatekeeper.sh": ["v1beta1"],
        "constrainttemplates.templates.gatekeeper.sh": ["v1"],
        "syncsets.syncset.gatekeeper.sh": ["v1alpha1"],
    }


def test_a_kind_that_nobody_knows_the_resources_of() -> None:
    with pytest.raises(ModelError, match=r"GatekeeperArgs: kinds: Job of batch: add its resources to KINDS"):
        declared(lambda: Gatekeeper("c", args(kinds=[("batch", "Job")])))


def test_a_folder_without_policies(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no <policy>/template\.yaml in it"):
        PolicyFiles.read(tmp_path)


def test_a_policy_without_its_constraint(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "template.yaml").write_text("kind: ConstraintTemplate\n")
    (tmp_path / "sync.yaml").write_text("kind: Config\n")
    with pytest.raises(ModelError, match=r"some/constraint\.yaml: can't be read: .*No such file"):
        PolicyFiles.read(tmp_path)
