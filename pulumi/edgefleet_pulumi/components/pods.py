"""What all pods have in common: least privilege, labels, volumes, and the one-replica server with a disk of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
from pulumi_kubernetes import apps, core, meta

from edgefleet_pulumi.model.industry import Resources

# Neither root nor anybody on the host. Images whose files belong to somebody else are given their own number.
NOBODY = 65532
CONFIG_ANNOTATION = "edgefleet.io/config"
PART_OF = "app.kubernetes.io/part-of"
NAME = "app.kubernetes.io/name"


def labels(name: str, system: str) -> dict[str, str]:
    """The labels of everything that belongs to one part of a system."""
    return {NAME: name, PART_OF: system}


def metadata(
    name: str, namespace: str, labelled: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> meta.v1.ObjectMetaArgs:
    """Names are given, never made up: a bundle must be the same each time, and hosts refer to objects by name."""
    return meta.v1.ObjectMetaArgs(
        name=name, namespace=namespace, labels=dict(labelled), annotations=dict(annotations) if annotations else None
    )


def pod_security(user: int = NOBODY) -> core.v1.PodSecurityContextArgs:
    """Pod Security Standard `restricted`."""
    return core.v1.PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=user,
        run_as_group=user,
        fs_group=user,
        fs_group_change_policy="OnRootMismatch",
        seccomp_profile=core.v1.SeccompProfileArgs(type="RuntimeDefault"),
    )


def container_security() -> core.v1.SecurityContextArgs:
    """No privilege, and nothing to write to but what is mounted."""
    return core.v1.SecurityContextArgs(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=core.v1.CapabilitiesArgs(drop=["ALL"]),
    )


def requirements(resources: Resources) -> core.v1.ResourceRequirementsArgs:
    """Requests and limits."""
    return core.v1.ResourceRequirementsArgs(
        requests={"cpu": resources.requests.cpu, "memory": resources.requests.memory},
        limits={"cpu": resources.limits.cpu, "memory": resources.limits.memory},
    )


def tcp_probe(port: int | str, *, period: int = 10, failures: int = 3) -> core.v1.ProbeArgs:
    """Somebody accepts connections there."""
    return core.v1.ProbeArgs(
        tcp_socket=core.v1.TCPSocketActionArgs(port=port),
        period_seconds=period,
        timeout_seconds=2,
        failure_threshold=failures,
    )


def http_probe(path: str, port: int | str, *, period: int = 10) -> core.v1.ProbeArgs:
    """It answers with a success."""
    return core.v1.ProbeArgs(
        http_get=core.v1.HTTPGetActionArgs(path=path, port=port), period_seconds=period, timeout_seconds=2
    )


def config_hash(files: Mapping[str, str]) -> str:
    """Changes with the configuration: as an annotation of the pod it has a new pod made."""
    text = "".join(f"{len(name)}:{name}{len(content)}:{content}" for name, content in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def config_volume(name: str, config_map: str) -> core.v1.VolumeArgs:
    """Files of a ConfigMap."""
    return core.v1.VolumeArgs(name=name, config_map=core.v1.ConfigMapVolumeSourceArgs(name=config_map))


def secret_volume(name: str, secret: str, *keys: str) -> core.v1.VolumeArgs:
    """Keys of a Secret as files, for the pod's own group. It is made at the site: until it is there, the pod waits."""
    return core.v1.VolumeArgs(
        name=name,
        secret=core.v1.SecretVolumeSourceArgs(
            secret_name=secret,
            default_mode=0o440,
            items=[core.v1.KeyToPathArgs(key=key, path=key) for key in keys],
        ),
    )


def scratch_volume(name: str, size: str) -> core.v1.VolumeArgs:
    """A folder that lives as long as the pod, up to a size."""
    return core.v1.VolumeArgs(name=name, empty_dir=core.v1.EmptyDirVolumeSourceArgs(size_limit=size))


def disk_volume(name: str, claim: str) -> core.v1.VolumeArgs:
    """A disk that outlives the pod."""
    return core.v1.VolumeArgs(
        name=name, persistent_volume_claim=core.v1.PersistentVolumeClaimVolumeSourceArgs(claim_name=claim)
    )


def mount(name: str, path: str, *, read_only: bool = False) -> core.v1.VolumeMountArgs:
    """A volume's place in a container."""
    return core.v1.VolumeMountArgs(name=name, mount_path=path, read_only=read_only or None)


def secret_env(name: str, secret: str, key: str) -> core.v1.EnvVarArgs:
    """A variable whose value only the site knows."""
    return core.v1.EnvVarArgs(
        name=name,
        value_from=core.v1.EnvVarSourceArgs(secret_key_ref=core.v1.SecretKeySelectorArgs(name=secret, key=key)),
    )


def claim(
    name: str, namespace: str, labelled: Mapping[str, str], storage: str, opts: pulumi.ResourceOptions
) -> core.v1.PersistentVolumeClaim:
    """A disk for one pod at a time: the scheduler refuses a second one.

    The claim is bound when its pod is scheduled, so Pulumi must not wait for it here.
    """
    return core.v1.PersistentVolumeClaim(
        f"{namespace}-{name}",
        metadata=metadata(name, namespace, labelled, {"pulumi.com/skipAwait": "true"}),
        spec=core.v1.PersistentVolumeClaimSpecArgs(
            access_modes=["ReadWriteOncePod"],
            resources=core.v1.VolumeResourceRequirementsArgs(requests={"storage": storage}),
        ),
        opts=opts,
    )


@dataclass(frozen=True)
class Server:
    """A server with one replica: what its pod is made of."""

    name: str
    namespace: str
    system: str
    containers: Sequence[core.v1.ContainerArgs]
    volumes: Sequence[core.v1.VolumeArgs]
    config: Mapping[str, str]
    grace_seconds: int = 30
    user: int = NOBODY
    # Whose rights a token would have; the token itself is a volume, given to the container that needs it.
    service_account: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=lambda: {"node-type": "edge"})

    @property
    def labels(self) -> dict[str, str]:
        """Labels of its objects, and what selects its pod."""
        return labels(self.name, self.system)

    def pod(self) -> core.v1.PodTemplateSpecArgs:
        """Its pod."""
        return core.v1.PodTemplateSpecArgs(
            metadata=meta.v1.ObjectMetaArgs(
                labels=self.labels, annotations={CONFIG_ANNOTATION: config_hash(self.config)}
            ),
            spec=core.v1.PodSpecArgs(
                node_selector=dict(self.node_selector),
                service_account_name=self.service_account,
                automount_service_account_token=False,
                enable_service_links=False,
                termination_grace_period_seconds=self.grace_seconds,
                security_context=pod_security(self.user),
                containers=list(self.containers),
                volumes=list(self.volumes),
            ),
        )

    def config_map(self, opts: pulumi.ResourceOptions) -> core.v1.ConfigMap:
        """Its configuration."""
        return core.v1.ConfigMap(
            f"{self.namespace}-{self.name}-config",
            metadata=metadata(f"{self.name}-config", self.namespace, self.labels),
            data=dict(self.config),
            opts=opts,
        )

    def stateful_set(self, opts: pulumi.ResourceOptions) -> apps.v1.StatefulSet:
        """At most one pod, ever: the old one is gone before the new one starts."""
        return apps.v1.StatefulSet(
            f"{self.namespace}-{self.name}",
            metadata=metadata(self.name, self.namespace, self.labels),
            spec=apps.v1.StatefulSetSpecArgs(
                replicas=1,
                service_name=self.name,
                selector=meta.v1.LabelSelectorArgs(match_labels=self.labels),
                template=self.pod(),
            ),
            opts=opts,
        )

    def service(self, ports: Mapping[str, int], opts: pulumi.ResourceOptions) -> core.v1.Service:
        """Its name inside the cluster."""
        return cluster_service(self.name, self.namespace, self.labels, ports, opts)


def cluster_service(
    name: str,
    namespace: str,
    labelled: Mapping[str, str],
    ports: Mapping[str, int],
    opts: pulumi.ResourceOptions,
    *,
    headless: bool = False,
) -> core.v1.Service:
    """A name for pods inside the cluster; headless: the pod's own address.

    Pulumi waits for the pods by their own objects: waiting for endpoints here as well would be a circle.
    """
    return core.v1.Service(
        f"{namespace}-{name}",
        metadata=metadata(name, namespace, labelled, {"pulumi.com/skipAwait": "true"}),
        spec=core.v1.ServiceSpecArgs(
            cluster_ip="None" if headless else None,
            selector=dict(labelled),
            ports=[
                core.v1.ServicePortArgs(name=port, port=number, target_port=number) for port, number in ports.items()
            ],
        ),
        opts=opts,
    )
