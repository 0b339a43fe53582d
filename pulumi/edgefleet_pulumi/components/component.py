"""The base of all components."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

# What is not ready by then has an error to show: Pulumi would go on waiting for ten minutes.
PATIENCE = pulumi.CustomTimeouts(create="5m", update="5m", delete="5m")


class Component(pulumi.ComponentResource):
    """A component whose resources wait for what the component itself was told to depend on.

    Pulumi hands a parent's provider down to its children, but not its dependencies.
    """

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None) -> None:
        super().__init__(f"edgefleet:index:{type(self).__name__}", name, None, opts)
        self._waits = pulumi.ResourceOptions(depends_on=opts.depends_on if opts else None)

    def own(self, after: Sequence[pulumi.Resource] = ()) -> pulumi.ResourceOptions:
        """Options of a resource that belongs to this component."""
        mine = pulumi.ResourceOptions(parent=self, depends_on=list(after), custom_timeouts=PATIENCE)
        return pulumi.ResourceOptions.merge(self._waits, mine)
