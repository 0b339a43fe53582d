"""What all systems share: the runtime classes are there, what may run is decided, and Prometheus watches."""

from __future__ import annotations

from edgefleet_pulumi.site_platform import Platform

platform = Platform()
platform.runtime_classes()
platform.admission()
platform.monitoring()
