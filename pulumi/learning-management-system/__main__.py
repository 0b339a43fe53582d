"""Courses and progress: SQLite at the school, Redis as cache and as queue of what is still to be synchronised."""

from __future__ import annotations

from edgefleet_pulumi.components.redis import SECRET
from edgefleet_pulumi.components.wasm_service import SecretVariable
from edgefleet_pulumi.program import System

system = System()
redis = system.redis()
system.service(
    sqlite=system.sqlite(),
    decision=system.decision_point(),
    environment={"CACHE_ADDRESS": redis.address, "SYNC_QUEUE_ADDRESS": redis.address},
    secrets=[SecretVariable("REDIS_PASSWORD", SECRET.name, "password")],
)
system.data_locality()
