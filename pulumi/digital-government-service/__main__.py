"""Requests of citizens: records encrypted in SQLite under a key that the counter's site made, Redis as cache."""

from __future__ import annotations

from edgefleet_pulumi.components.redis import SECRET
from edgefleet_pulumi.components.site_secrets import SiteSecret
from edgefleet_pulumi.components.wasm_service import SecretVariable
from edgefleet_pulumi.program import System

DATA_KEY = SiteSecret(name="data-key", random={"key": 64})

system = System(secrets=[DATA_KEY])
redis = system.redis()
system.service(
    sqlite=system.sqlite(),
    decision=system.decision_point(),
    environment={"CACHE_ADDRESS": redis.address},
    secrets=[
        SecretVariable("REDIS_PASSWORD", SECRET.name, "password"),
        SecretVariable("DATA_KEY", DATA_KEY.name, "key"),
    ],
)
system.data_locality()
