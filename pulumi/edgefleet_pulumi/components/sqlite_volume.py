"""The disk of a SQLite file: one pod writes to it, and never a second one."""

from __future__ import annotations

import pulumi
from pulumi_kubernetes import batch, core, meta

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.model.industry import Amount, Name, Resources
from edgefleet_pulumi.model.units import Memory

VOLUME = "sqlite"
DATA_PATH = "/data"
BACKUP_PATH = "/backup"
BACKUP_RESOURCES = Resources(requests=Amount(cpu="10m", memory="16Mi"), limits=Amount(cpu="100m", memory="64Mi"))


class BackupArgs(Args):
    """When the service is asked to write a copy of its file, and by what."""

    schedule: str
    image: ImageReference
    # A path of the service itself: it alone can copy a file that it writes to at the same time.
    url: str


class SqliteVolumeArgs(Args):
    """What a SQLite file needs."""

    namespace: Name
    system: Name
    service: Name
    storage: Memory
    backup: BackupArgs | None = None


class SqliteVolume(Component):
    """Two disks, one for the file and one for its copies, that one pod alone may use at a time (ReadWriteOncePod).

    SQLite inside WebAssembly has no locks that outlive a kill, so Kubernetes has to keep a second writer away:
    `WasmService` with this volume becomes a StatefulSet of one replica, and the scheduler refuses any other pod that
    asks for the disk.
    """

    def __init__(self, name: str, args: SqliteVolumeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        labelled = pods.labels(args.service, args.system)
        own = self.own()
        self.claims = [
            pods.claim(f"{args.service}-{kind}", args.namespace, labelled, args.storage, own)
            for kind in ("sqlite", "backup")
        ]
        self.volumes = [
            pods.disk_volume(VOLUME, f"{args.service}-sqlite"),
            pods.disk_volume("backup", f"{args.service}-backup"),
        ]
        self.mounts = [pods.mount(VOLUME, DATA_PATH), pods.mount("backup", BACKUP_PATH)]
        if args.backup:
            _backup_job(args, args.backup, own)
        self.register_outputs({"path": DATA_PATH})


def _backup_job(args: SqliteVolumeArgs, backup: BackupArgs, opts: pulumi.ResourceOptions) -> batch.v1.CronJob:
    """Asks the service to copy its file. The job can't do so itself: the disk is the service's alone."""
    name = f"{args.service}-backup"
    labelled = pods.labels(name, args.system)
    container = core.v1.ContainerArgs(
        name="ask",
        image=backup.image,
        image_pull_policy="IfNotPresent",
        command=["curl", "--fail", "--silent", "--show-error", "--max-time", "300", "--request", "POST", backup.url],
        resources=pods.requirements(BACKUP_RESOURCES),
        security_context=pods.container_security(),
    )
    pod = core.v1.PodSpecArgs(
        restart_policy="Never",
        node_selector={"node-type": "edge"},
        automount_service_account_token=False,
        enable_service_links=False,
        security_context=pods.pod_security(),
        containers=[container],
    )
    return batch.v1.CronJob(
        f"{args.namespace}-{name}",
        metadata=pods.metadata(name, args.namespace, labelled),
        spec=batch.v1.CronJobSpecArgs(
            schedule=backup.schedule,
            concurrency_policy="Forbid",
            # A site that was off at the time catches up when it is back within the hour.
            starting_deadline_seconds=3600,
            successful_jobs_history_limit=1,
            failed_jobs_history_limit=1,
            job_template=batch.v1.JobTemplateSpecArgs(
                spec=batch.v1.JobSpecArgs(
                    backoff_limit=2,
                    active_deadline_seconds=600,
                    template=core.v1.PodTemplateSpecArgs(metadata=meta.v1.ObjectMetaArgs(labels=labelled), spec=pod),
                )
            ),
        ),
        opts=opts,
    )
