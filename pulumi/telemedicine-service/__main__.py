"""Video calls: the service signals, RabbitMQ queues calls and records, coturn relays media inside the site."""

from __future__ import annotations

from edgefleet_pulumi.components import rabbitmq, turn
from edgefleet_pulumi.components.wasm_service import SecretVariable
from edgefleet_pulumi.program import System

system = System()
queue = system.rabbitmq()
system.turn()
system.service(
    decision=system.decision_point(),
    environment={"AMQP_ADDRESS": queue.address, "AMQP_USER": rabbitmq.USER},
    secrets=[
        SecretVariable("AMQP_PASSWORD", rabbitmq.SECRET.name, "password"),
        SecretVariable("TURN_SECRET", turn.NAME, "secret"),
    ],
)
system.data_locality()
