"""How many pods: the mission's figure at a hub, what one node has to carry at a site."""

from __future__ import annotations

import math

from edgefleet_pulumi.model.errors import ModelError
from edgefleet_pulumi.model.industry import Industry


def hub_replicas(industry: Industry) -> int:
    """A hub is one cluster whose nodes are agents: the declared number."""
    return industry.service.replicas


def site_replicas(industry: Industry, measured_qps_per_pod: int | None = None) -> int:
    """A site is one node: ceil(QPS per node / measured QPS per pod), and 1 for a service with a SQLite file of its own.

    Without a measurement there is no number, except where it is 1 anyway: a guess would be wrong on some hardware.
    """
    needed = industry.scale.qps_per_node
    if measured_qps_per_pod is not None and measured_qps_per_pod < 1:
        raise ModelError(f"measured_qps_per_pod: must be at least 1, not {measured_qps_per_pod}: measure it again")
    if industry.back_ends.sqlite is not None:
        if measured_qps_per_pod is not None and measured_qps_per_pod < needed:
            raise ModelError(
                f"{industry.system}: a node has to carry {needed} QPS and a pod carries {measured_qps_per_pod}, but "
                "the service has a SQLite file of its own, so one pod at a site: make the pod faster "
                "(limits.cpu), or give the service more nodes (scale.nodes)"
            )
        return 1
    if measured_qps_per_pod is None:
        raise ModelError(
            f"{industry.system}: measured_qps_per_pod is missing: set it in the stack to what the smoke test measured "
            f"on this hardware; a node has to carry {needed} QPS"
        )
    return max(1, math.ceil(needed / measured_qps_per_pod))
