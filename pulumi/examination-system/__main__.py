"""Examinations: answers and events in SQLite at the hall; the anti-cheat model comes in the service's own image."""

from __future__ import annotations

from edgefleet_pulumi.program import System

system = System()
system.service(sqlite=system.sqlite(), decision=system.decision_point())
system.data_locality()
