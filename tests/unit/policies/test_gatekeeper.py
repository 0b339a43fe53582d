"""Gatekeeper's policies by gator 3.15, and the same objects by the API server's own code where it has the policy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.builders.opa import PolicyTools
from lab.paths import CHECKOUT

POLICIES = CHECKOUT / "policies"
NAMES = sorted(suite.parent.name for suite in POLICIES.glob("*/suite.yaml"))
# Those that look at containers show each kind of them.
BY_CONTAINER = {
    "allowed-registries",
    "no-host-access",
    "required-resources",
    "secrets-from-secrets",
    "wasm-runtime-class",
}
every_policy = pytest.mark.parametrize("name", NAMES)


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def suite_cases(name: str) -> list[dict[str, Any]]:
    (suite,) = documents(POLICIES / name / "suite.yaml")
    cases: list[dict[str, Any]] = suite["tests"][0]["cases"]
    return cases


def rego(name: str) -> str:
    (template,) = documents(POLICIES / name / "template.yaml")
    (target,) = template["spec"]["targets"]
    text: str = target["rego"]
    return text


def verify(tools: PolicyTools, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tools.gator, "verify", f"{folder}/..."], capture_output=True, text=True, check=False)


def test_every_policy_is_complete() -> None:
    folders = {path.name for path in POLICIES.iterdir() if path.is_dir()} - {"admission"}
    assert folders == set(NAMES)
    for name in NAMES:
        (template,) = documents(POLICIES / name / "template.yaml")
        (constraint,) = documents(POLICIES / name / "constraint.yaml")
        assert constraint["kind"] == template["spec"]["crd"]["spec"]["names"]["kind"]
        assert constraint["spec"]["enforcementAction"] == "deny"
        assert "kube-system" in constraint["spec"]["match"]["excludedNamespaces"]


def test_all_suites(tools: PolicyTools) -> None:
    done = verify(tools, POLICIES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {Path(line.split()[1]).parent.name for line in done.stdout.splitlines() if line.startswith("ok")} == set(
        NAMES
    )


@every_policy
def test_every_no_has_its_count_and_its_messages(name: str) -> None:
    counts = []
    for case in suite_cases(name):
        total, *messages = case["assertions"]
        assert set(total) == {"violations"}, case["name"]
        assert sum(one["violations"] for one in messages) >= total["violations"], case["name"]
        assert all(one["message"] for one in messages), case["name"]
        counts.append(total["violations"])
    assert 0 in counts
    assert max(counts) > 0


@every_policy
def test_every_sample_is_used(name: str) -> None:
    folder = POLICIES / name
    used = {path for case in suite_cases(name) for path in (case["object"], *case.get("inventory", []))}
    assert used == {str(path.relative_to(folder)) for path in (folder / "samples").iterdir()}


@pytest.mark.parametrize("name", sorted(BY_CONTAINER))
def test_every_kind_of_container_is_shown(name: str) -> None:
    samples = " ".join((POLICIES / name / case["object"]).read_text() for case in suite_cases(name))
    assert all(re.search(rf"\b{kind}:", samples) for kind in ("containers", "initContainers", "ephemeralContainers"))


@every_policy
def test_rego_of_the_template(tools: PolicyTools, tmp_path: Path, name: str) -> None:
    file = tmp_path / "template.rego"
    file.write_text(rego(name))
    assert "rego.v1" not in file.read_text(), "Gatekeeper 3.15 refuses it in templates"
    for command in (["check", str(file)], ["fmt", "--fail", "--diff", str(file)]):
        done = subprocess.run([tools.oldest_opa, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def rules(name: str) -> list[str]:
    """Each rule that finds something."""
    return re.findall(r"^violation contains .*?^}\n", rego(name), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("name", "rule"), [(name, number) for name in NAMES for number in range(len(rules(name)))])
def test_no_rule_can_be_left_out_unseen(tools: PolicyTools, tmp_path: Path, name: str, rule: int) -> None:
    folder = shutil.copytree(POLICIES / name, tmp_path / name)
    (template,) = documents(folder / "template.yaml")
    found = rules(name)[rule]
    template["spec"]["targets"][0]["rego"] = rego(name).replace(found, 'violation contains {"msg": "x"} if false\n')
    (folder / "template.yaml").write_text(yaml.safe_dump(template))
    done = verify(tools, folder)
    assert "unexpected number of violations" in done.stdout, done.stdout + done.stderr


def admission_cases() -> list[tuple[str, str]]:
    names = sorted(file.stem for file in (POLICIES / "admission").glob("*.yaml"))
    return [(name, case["name"]) for name in names for case in suite_cases(name)]


def request(name: str, case: str) -> dict[str, Any]:
    """The case of a suite as the admission program wants it."""
    (content,) = documents(POLICIES / name / "samples" / f"{case}.yaml")
    asked: dict[str, Any] = content.get("request", {"operation": "CREATE", "object": content})
    return {
        "policy": f"edgefleet-{name}",
        "operation": asked["operation"],
        "namespace": asked["object"]["metadata"]["namespace"],
        "object": asked["object"],
        "oldObject": asked.get("oldObject"),
    }


def decide(tools: PolicyTools, policies: list[dict[str, Any]], cases: list[dict[str, Any]]) -> list[list[str]]:
    """The messages of each case; none means admitted."""
    done = subprocess.run(
        [tools.admission],
        input=json.dumps({"policies": policies, "cases": cases}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: list[list[str]] = json.loads(done.stdout)
    return answer


def admission_policies() -> list[dict[str, Any]]:
    files = sorted((POLICIES / "admission").glob("*.yaml"))
    return [one for file in files for one in documents(file) if one["kind"] == "ValidatingAdmissionPolicy"]


@pytest.mark.parametrize(("name", "case"), admission_cases())
def test_the_api_server_decides_alike(tools: PolicyTools, name: str, case: str) -> None:
    (one,) = [one for one in suite_cases(name) if one["name"] == case]
    (messages,) = decide(tools, admission_policies(), [request(name, case)])
    assert bool(messages) == (one["assertions"][0]["violations"] > 0), messages
    assert not [message for message in messages if "failed expression" in message or "no such key" in message]


MESSAGES = {
    ("no-host-access", "host_namespaces"): "spec.hostPID, spec.hostIPC is not allowed: remove it",
    ("no-host-access", "host_path"): "volume etc: hostPath is not allowed: use a PersistentVolumeClaim or emptyDir",
    (
        "no-host-access",
        "privileged_init_container",
    ): "container prepare: securityContext.privileged is not allowed: remove it",
    ("no-host-access", "host_port"): "container app: this hostPort is not allowed: expose it by a Service",
    ("wasm-runtime-class", "container"): "container app: a Wasm image needs runtimeClassName wasmedge",
    (
        "wasm-runtime-class",
        "class_without_wasm",
    ): "runtimeClassName wasmedge is for Wasm, and no container has a Wasm image",
}


@pytest.mark.parametrize(("name", "case"), MESSAGES)
def test_what_the_api_server_says(tools: PolicyTools, name: str, case: str) -> None:
    ((message,),) = decide(tools, admission_policies(), [request(name, case)])
    assert message.startswith(MESSAGES[name, case])


def test_k3s_itself_is_left_alone(tools: PolicyTools) -> None:
    one = {**request("no-host-access", "host_network"), "namespace": "kube-system"}
    assert decide(tools, admission_policies(), [one]) == [[]]


def test_bindings_deny_and_tell_the_audit_log() -> None:
    for file in (POLICIES / "admission").glob("*.yaml"):
        policy, binding = documents(file)
        assert policy["spec"]["failurePolicy"] == "Fail"
        assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny", "Audit"]}


def test_an_expression_that_does_not_compile_is_seen(tools: PolicyTools) -> None:
    (broken, *_) = admission_policies()
    broken["spec"]["validations"][0]["expression"] = "variables.isNw"
    done = subprocess.run(
        [tools.admission],
        input=json.dumps({"policies": [broken], "cases": []}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "undefined field 'isNw'" in done.stderr
