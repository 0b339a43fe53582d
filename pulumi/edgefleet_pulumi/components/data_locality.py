"""Who may talk to whom: nobody comes in but through what is exposed, and data that stays local finds no way out."""

from __future__ import annotations

from typing import Literal

import pulumi
from pulumi_kubernetes import core, meta, networking

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.model.industry import Name, PortNumber

LABEL = "edgefleet.io/data"
EXEMPTION_ANNOTATION = "edgefleet.io/exemption"
LOCAL, ANYWHERE = "local", "anywhere"


class DataLocalityArgs(Args):
    """What one namespace is allowed."""

    namespace: Name
    system: Name
    stays_local: bool
    site_network: str
    # TLS ports of pods that the site's network may reach.
    entrances: list[PortNumber]
    monitoring_namespace: Name
    metrics_ports: list[PortNumber]


class DataLocality(Component):
    """The namespace's NetworkPolicies, from the one line `data.stays_local`.

    Inside the namespace all may talk. From outside, the site's network reaches the entrances, monitoring the metrics.
    Where data stays local, `no_way_out` comes before the first pod; these policies then open the way to the namespace,
    the cluster's DNS and the site's network, and to nothing else.
    """

    def __init__(self, name: str, args: DataLocalityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._policy(args, "default-deny", _deny("Ingress"))
        self._policy(args, "inside", _inside(args))
        if args.entrances:
            self._policy(args, "entrances", _from_site(args))
        if args.metrics_ports:
            self._policy(args, "metrics", _from_monitoring(args))
        if args.stays_local:
            self._policy(args, "ways-out", _ways_out(args.site_network, _dns()))
        self.register_outputs({})

    def _policy(self, args: DataLocalityArgs, name: str, spec: networking.v1.NetworkPolicySpecArgs) -> None:
        _network_policy(name, args.namespace, args.system, spec, self.own())


def no_way_out(namespace: str, system: str, opts: pulumi.ResourceOptions) -> networking.v1.NetworkPolicy:
    """Nothing leaves a namespace: there before its first pod, which admission would refuse without it."""
    return _network_policy("no-way-out", namespace, system, _deny("Egress"), opts)


def to_the_site(
    namespace: str, system: str, site_network: str, opts: pulumi.ResourceOptions
) -> networking.v1.NetworkPolicy:
    """The way to the site's network, for a namespace that needs no other."""
    return _network_policy("ways-out", namespace, system, _ways_out(site_network), opts)


def _network_policy(
    name: str, namespace: str, system: str, spec: networking.v1.NetworkPolicySpecArgs, opts: pulumi.ResourceOptions
) -> networking.v1.NetworkPolicy:
    return networking.v1.NetworkPolicy(
        f"{namespace}-{name}",
        metadata=pods.metadata(name, namespace, {pods.PART_OF: system}),
        spec=spec,
        opts=opts,
    )


_EVERY_POD = meta.v1.LabelSelectorArgs()


def _tcp(*ports: int) -> list[networking.v1.NetworkPolicyPortArgs]:
    return [networking.v1.NetworkPolicyPortArgs(protocol="TCP", port=port) for port in ports]


def _deny(direction: Literal["Ingress", "Egress"]) -> networking.v1.NetworkPolicySpecArgs:
    return networking.v1.NetworkPolicySpecArgs(pod_selector=_EVERY_POD, policy_types=[direction])


def _inside(args: DataLocalityArgs) -> networking.v1.NetworkPolicySpecArgs:
    peer = networking.v1.NetworkPolicyPeerArgs(pod_selector=_EVERY_POD)
    return networking.v1.NetworkPolicySpecArgs(
        pod_selector=_EVERY_POD,
        policy_types=["Ingress", "Egress"] if args.stays_local else ["Ingress"],
        ingress=[networking.v1.NetworkPolicyIngressRuleArgs(from_=[peer])],
        egress=[networking.v1.NetworkPolicyEgressRuleArgs(to=[peer])] if args.stays_local else None,
    )


def _from_site(args: DataLocalityArgs) -> networking.v1.NetworkPolicySpecArgs:
    block = networking.v1.IPBlockArgs(cidr=args.site_network)
    rule = networking.v1.NetworkPolicyIngressRuleArgs(
        from_=[networking.v1.NetworkPolicyPeerArgs(ip_block=block)], ports=_tcp(*args.entrances)
    )
    return networking.v1.NetworkPolicySpecArgs(pod_selector=_EVERY_POD, policy_types=["Ingress"], ingress=[rule])


def _namespace(name: str) -> meta.v1.LabelSelectorArgs:
    return meta.v1.LabelSelectorArgs(match_labels={"kubernetes.io/metadata.name": name})


def _from_monitoring(args: DataLocalityArgs) -> networking.v1.NetworkPolicySpecArgs:
    peer = networking.v1.NetworkPolicyPeerArgs(namespace_selector=_namespace(args.monitoring_namespace))
    rule = networking.v1.NetworkPolicyIngressRuleArgs(from_=[peer], ports=_tcp(*args.metrics_ports))
    return networking.v1.NetworkPolicySpecArgs(pod_selector=_EVERY_POD, policy_types=["Ingress"], ingress=[rule])


def _dns() -> networking.v1.NetworkPolicyEgressRuleArgs:
    dns = networking.v1.NetworkPolicyPeerArgs(
        namespace_selector=_namespace("kube-system"),
        pod_selector=meta.v1.LabelSelectorArgs(match_labels={"k8s-app": "kube-dns"}),
    )
    ports = [networking.v1.NetworkPolicyPortArgs(protocol=protocol, port=53) for protocol in ("UDP", "TCP")]
    return networking.v1.NetworkPolicyEgressRuleArgs(to=[dns], ports=ports)


def _ways_out(
    site_network: str, *others: networking.v1.NetworkPolicyEgressRuleArgs
) -> networking.v1.NetworkPolicySpecArgs:
    site = networking.v1.NetworkPolicyPeerArgs(ip_block=networking.v1.IPBlockArgs(cidr=site_network))
    rules = [*others, networking.v1.NetworkPolicyEgressRuleArgs(to=[site])]
    return networking.v1.NetworkPolicySpecArgs(pod_selector=_EVERY_POD, policy_types=["Egress"], egress=rules)


def namespace_label(stays_local: bool) -> dict[str, str]:
    """What admission and audits know the namespace by."""
    return {LABEL: LOCAL if stays_local else ANYWHERE}


def namespace(
    name: str,
    system: str,
    opts: pulumi.ResourceOptions,
    *,
    stays_local: bool = False,
    level: Literal["restricted", "privileged"] = "restricted",
    exemption: str | None = None,
) -> core.v1.Namespace:
    """A namespace whose pods are held to a Pod Security Standard; other than `restricted`, for a reason in writing."""
    if (level == "restricted") != (exemption is None):
        raise ValueError(
            f"namespace {name}: a level other than restricted goes with an exemption's reason: give both or none"
        )
    labelled = {
        pods.PART_OF: system,
        "pod-security.kubernetes.io/enforce": level,
        "pod-security.kubernetes.io/enforce-version": "v1.30",
        "pod-security.kubernetes.io/warn": level,
        "pod-security.kubernetes.io/warn-version": "v1.30",
        **namespace_label(stays_local),
    }
    annotations = {EXEMPTION_ANNOTATION: exemption} if exemption else None
    return core.v1.Namespace(
        name, metadata=meta.v1.ObjectMetaArgs(name=name, labels=labelled, annotations=annotations), opts=opts
    )
