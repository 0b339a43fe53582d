"""Gatekeeper: judges what shall run on a cluster, and is never needed for a site to come up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
from pulumi_kubernetes import admissionregistration as admission
from pulumi_kubernetes import apiextensions, apps, core, meta, rbac
from pydantic import Field

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ArgsError, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.components.site_secrets import SiteSecret
from edgefleet_pulumi.model.industry import Amount, Resources

NAMESPACE, NAME = "gatekeeper-system", "gatekeeper"
WEBHOOK_PORT, HEALTH_PORT, METRICS_PORT = 8443, 9090, 8888
# The names that the manager looks for.
SERVICE = "gatekeeper-webhook-service"
WEBHOOKS = "gatekeeper-validating-webhook-configuration"
# The manager makes its own certificate, renews it, and puts its authority into the webhooks.
SECRET = SiteSecret(name="gatekeeper-webhook-server-cert", filled_by=NAME)
RESOURCES = Resources(requests=Amount(cpu="50m", memory="128Mi"), limits=Amount(cpu="1000m", memory="256Mi"))
# Nobody waits longer for a Gatekeeper that does not answer; then its say is left out.
TIMEOUT_SECONDS = 3
# What has no admission but Gatekeeper's own comes first: the namespaces of K3s and of Gatekeeper.
EXEMPT = ("kube-system", NAMESPACE)
# API group and kind, as constraints name them, and what it is called in rules.
KINDS: Mapping[tuple[str, str], Sequence[str]] = {
    ("", "ConfigMap"): ("configmaps",),
    ("", "Pod"): ("pods", "pods/ephemeralcontainers"),
    ("networking.k8s.io", "NetworkPolicy"): ("networkpolicies",),
}


@dataclass(frozen=True)
class Kind:
    """A kind that the manager itself works with; the first version is the stored one."""

    kind: str
    plural: str
    group: str
    versions: Sequence[str]
    scope: Literal["Namespaced", "Cluster"]


_STATUS = "status.gatekeeper.sh"
OWN = (
    Kind("Config", "configs", "config.gatekeeper.sh", ["v1alpha1"], "Namespaced"),
    Kind("ConstraintPodStatus", "constraintpodstatuses", _STATUS, ["v1beta1"], "Namespaced"),
    Kind("ConstraintTemplatePodStatus", "constrainttemplatepodstatuses", _STATUS, ["v1beta1"], "Namespaced"),
    Kind(
        "ConstraintTemplate", "constrainttemplates", "templates.gatekeeper.sh", ["v1", "v1beta1", "v1alpha1"], "Cluster"
    ),
    Kind("SyncSet", "syncsets", "syncset.gatekeeper.sh", ["v1alpha1"], "Cluster"),
)
_ALL_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_READ = ["get", "list", "watch"]


class GatekeeperArgs(Args):
    """What Gatekeeper is made of, and the kinds of objects that it judges."""

    image: ImageReference
    kinds: list[tuple[str, str]] = Field(min_length=1, description="API group and kind of what constraints look at")
    resources: Resources = RESOURCES


class Gatekeeper(Component):
    """One pod for webhook and audit together, with what it needs and nothing beyond: no mutation, no external data.

    Every webhook is `failurePolicy: Ignore`, the one that guards namespaces, too: a site without Gatekeeper boots,
    makes namespaces and serves; the audit finds later what came in meanwhile. Its rules name the kinds that constraints
    look at, so that all other writes of the cluster never wait for it. It may read these kinds, and its own Secret.

    Beside Prometheus the only pod of the project with a service account token: it reads what it judges.
    """

    def __init__(self, name: str, args: GatekeeperArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        judged = _resources(args.kinds)
        own = self.own()
        needed: list[pulumi.Resource] = [_definition(kind, own) for kind in OWN]
        needed += _account(judged, own)
        core.v1.Service(
            f"{NAMESPACE}-{SERVICE}",
            metadata=pods.metadata(SERVICE, NAMESPACE, _LABELS, {"pulumi.com/skipAwait": "true"}),
            spec=core.v1.ServiceSpecArgs(
                selector=_LABELS,
                ports=[core.v1.ServicePortArgs(name="webhook", port=443, target_port=WEBHOOK_PORT)],
            ),
            opts=own,
        )
        needed.append(_webhooks(judged, own))
        self.deployment = _deployment(args, self.own(after=needed))
        self.register_outputs({})


_LABELS = pods.labels(NAME, "platform")


def _resources(kinds: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The resources of kinds, by API group."""
    unknown = sorted({kind for kind in kinds if kind not in KINDS})
    if unknown:
        named = ", ".join(f"{kind} of {group or 'core'}" for group, kind in unknown)
        raise ArgsError(f"GatekeeperArgs: kinds: {named}: add its resources to KINDS in components/gatekeeper.py")
    found: dict[str, list[str]] = {}
    for group, kind in sorted(set(kinds)):
        found.setdefault(group, []).extend(KINDS[group, kind])
    return found


def _definition(one: Kind, opts: pulumi.ResourceOptions) -> apiextensions.CustomResource:
    """A kind of Gatekeeper's. What may stand in it differs between versions: their manager checks it."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = [
        {
            "name": version,
            "served": True,
            "storage": version == one.versions[0],
            "schema": {"openAPIV3Schema": anything},
            **({"subresources": {"status": {}}} if one.kind == "ConstraintTemplate" else {}),
        }
        for version in one.versions
    ]
    name = f"{one.plural}.{one.group}"
    return apiextensions.CustomResource(
        name,
        api_version="apiextensions.k8s.io/v1",
        kind="CustomResourceDefinition",
        metadata=meta.v1.ObjectMetaArgs(
            name=name, labels=_LABELS, annotations={"pulumi.com/waitFor": "condition=Established"}
        ),
        spec={
            "group": one.group,
            "names": {
                "kind": one.kind,
                "listKind": f"{one.kind}List",
                "plural": one.plural,
                "singular": one.kind.lower(),
            },
            "scope": one.scope,
            "versions": served,
        },
        opts=opts,
    )


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str], *names: str) -> rbac.v1.PolicyRuleArgs:
    return rbac.v1.PolicyRuleArgs(
        api_groups=[group], resources=list(resources), verbs=list(verbs), resource_names=list(names) or None
    )


def _cluster_rules(judged: Mapping[str, Sequence[str]]) -> Iterator[rbac.v1.PolicyRuleArgs]:
    for group, resources in judged.items():
        yield _rule(group, [one for one in resources if "/" not in one], _READ)
    yield _rule("", ["namespaces"], _READ)
    for group in sorted({one.group for one in OWN} | {"constraints.gatekeeper.sh"}):
        yield _rule(group, ["*"], _ALL_VERBS)
    # Each template becomes a kind of its own.
    yield _rule("apiextensions.k8s.io", ["customresourcedefinitions"], _ALL_VERBS)
    yield _rule("admissionregistration.k8s.io", ["validatingwebhookconfigurations"], _READ)
    yield _rule("admissionregistration.k8s.io", ["validatingwebhookconfigurations"], ["patch", "update"], WEBHOOKS)


def _account(judged: Mapping[str, Sequence[str]], opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
    """Who it is to the cluster, and what it may do there."""
    subject = [rbac.v1.SubjectArgs(kind="ServiceAccount", name=NAME, namespace=NAMESPACE)]

    def role_ref(kind: str) -> rbac.v1.RoleRefArgs:
        return rbac.v1.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind=kind, name=NAME)

    everywhere = meta.v1.ObjectMetaArgs(name=NAME, labels=_LABELS)
    here = pods.metadata(NAME, NAMESPACE, _LABELS)
    own_secret = _rule("", ["secrets"], ["patch", "update"], SECRET.name)
    # Nothing but its certificate is in this namespace; a list can't be limited to a name.
    at_home = [_rule("", ["secrets"], _READ), own_secret, _rule("", ["pods"], _READ)]
    events = _rule("", ["events"], ["create", "patch"])
    return [
        core.v1.ServiceAccount(f"{NAMESPACE}-{NAME}", metadata=here, opts=opts),
        rbac.v1.ClusterRole(NAME, metadata=everywhere, rules=[*_cluster_rules(judged)], opts=opts),
        rbac.v1.ClusterRoleBinding(
            NAME, metadata=everywhere, subjects=subject, role_ref=role_ref("ClusterRole"), opts=opts
        ),
        rbac.v1.Role(f"{NAMESPACE}-{NAME}", metadata=here, rules=[*at_home, events], opts=opts),
        rbac.v1.RoleBinding(
            f"{NAMESPACE}-{NAME}", metadata=here, subjects=subject, role_ref=role_ref("Role"), opts=opts
        ),
    ]


def _webhook(name: str, path: str, rules: Sequence[Mapping[str, Any]]) -> admission.v1.ValidatingWebhookArgs:
    return admission.v1.ValidatingWebhookArgs(
        name=name,
        admission_review_versions=["v1"],
        client_config=admission.v1.WebhookClientConfigArgs(
            service=admission.v1.ServiceReferenceArgs(name=SERVICE, namespace=NAMESPACE, path=path)
        ),
        failure_policy="Ignore",
        match_policy="Exact",
        namespace_selector=meta.v1.LabelSelectorArgs(
            match_expressions=[
                meta.v1.LabelSelectorRequirementArgs(
                    key="kubernetes.io/metadata.name", operator="NotIn", values=list(EXEMPT)
                )
            ]
        ),
        rules=[
            admission.v1.RuleWithOperationsArgs(
                api_groups=list(rule["groups"]),
                api_versions=["*"],
                operations=["CREATE", "UPDATE"],
                resources=list(rule["resources"]),
            )
            for rule in rules
        ],
        side_effects="None",
        timeout_seconds=TIMEOUT_SECONDS,
    )


def _webhooks(
    judged: Mapping[str, Sequence[str]], opts: pulumi.ResourceOptions
) -> admission.v1.ValidatingWebhookConfiguration:
    own = ["config.gatekeeper.sh", "constraints.gatekeeper.sh", "templates.gatekeeper.sh"]
    rules = [{"groups": [group], "resources": resources} for group, resources in judged.items()]
    return admission.v1.ValidatingWebhookConfiguration(
        WEBHOOKS,
        metadata=meta.v1.ObjectMetaArgs(name=WEBHOOKS, labels=_LABELS),
        webhooks=[
            _webhook("validation.gatekeeper.sh", "/v1/admit", [*rules, {"groups": own, "resources": ["*"]}]),
            _webhook(
                "check-ignore-label.gatekeeper.sh", "/v1/admitlabel", [{"groups": [""], "resources": ["namespaces"]}]
            ),
        ],
        opts=opts,
    )


def _container(args: GatekeeperArgs) -> core.v1.ContainerArgs:
    paths = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    return core.v1.ContainerArgs(
        name="manager",
        image=args.image,
        image_pull_policy="IfNotPresent",
        command=["/manager"],
        args=[
            f"--port={WEBHOOK_PORT}",
            f"--health-addr=:{HEALTH_PORT}",
            f"--prometheus-port={METRICS_PORT}",
            "--logtostderr",
            *(f"--exempt-namespace={name}" for name in EXEMPT),
            *(f"--operation={name}" for name in ("webhook", "audit", "status")),
            # Policies decide by what they see in the cluster, and ask nobody else.
            "--disable-opa-builtin={http.send}",
            "--enable-external-data=false",
            "--enable-generator-resource-expansion=false",
            "--audit-match-kind-only=true",
            "--audit-interval=300",
        ],
        env=[
            core.v1.EnvVarArgs(
                name=name,
                value_from=core.v1.EnvVarSourceArgs(field_ref=core.v1.ObjectFieldSelectorArgs(field_path=path)),
            )
            for name, path in paths.items()
        ],
        ports=[
            core.v1.ContainerPortArgs(name="webhook", container_port=WEBHOOK_PORT),
            core.v1.ContainerPortArgs(name="metrics", container_port=METRICS_PORT),
            core.v1.ContainerPortArgs(name="health", container_port=HEALTH_PORT),
        ],
        resources=pods.requirements(args.resources),
        readiness_probe=pods.http_probe("/readyz", "health", period=5),
        liveness_probe=pods.http_probe("/healthz", "health"),
        security_context=pods.container_security(),
        volume_mounts=[
            pods.mount("cert", "/certs", read_only=True),
            pods.mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ],
    )


def _deployment(args: GatekeeperArgs, opts: pulumi.ResourceOptions) -> apps.v1.Deployment:
    spec = core.v1.PodSpecArgs(
        service_account_name=NAME,
        automount_service_account_token=True,
        enable_service_links=False,
        node_selector={"node-type": "edge"},
        termination_grace_period_seconds=10,
        security_context=pods.pod_security(),
        containers=[_container(args)],
        volumes=[
            core.v1.VolumeArgs(
                name="cert", secret=core.v1.SecretVolumeSourceArgs(secret_name=SECRET.name, default_mode=0o440)
            ),
            pods.scratch_volume("tmp", "64Mi"),
        ],
    )
    return apps.v1.Deployment(
        f"{NAMESPACE}-{NAME}",
        metadata=pods.metadata(NAME, NAMESPACE, _LABELS),
        spec=apps.v1.DeploymentSpecArgs(
            replicas=1,
            selector=meta.v1.LabelSelectorArgs(match_labels=_LABELS),
            template=core.v1.PodTemplateSpecArgs(metadata=meta.v1.ObjectMetaArgs(labels=_LABELS), spec=spec),
        ),
        opts=opts,
    )
