"""Records of devices: Mosquitto takes them, the service subscribes there, and what it has processed is in SQLite."""

from __future__ import annotations

from edgefleet_pulumi.components import mosquitto
from edgefleet_pulumi.components.wasm_service import SecretVariable
from edgefleet_pulumi.program import System

system = System()
broker = system.mosquitto()
system.service(
    sqlite=system.sqlite(),
    decision=system.decision_point(),
    environment={"MQTT_ADDRESS": broker.address, "MQTT_USER": mosquitto.SERVICE_USER},
    secrets=[SecretVariable("MQTT_PASSWORD", mosquitto.SECRET.name, "service_password")],
)
system.data_locality()
