"""Three nodes of Apache Kafka, each a broker and a controller, with every partition on all of them."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Self

from apache_kafka import ApacheKafka, free_ports

from producers.connection import Connection

NODES = 3

# the last lines: fail-over in seconds rather than tens of them
PROPERTIES = """
node.id={number}
controller.quorum.voters={voters}
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
default.replication.factor=3
min.insync.replicas=2
num.network.threads=1
num.io.threads=2
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
"""


class KafkaCluster:
    """The nodes, to be killed one at a time.

    Attributes
    ----------
    nodes : list[ApacheKafka]
        Node ``i`` has the id ``i + 1``.
    """

    def __init__(self) -> None:
        ports = free_ports(2 * NODES)
        voters = ",".join(f"{n + 1}@127.0.0.1:{ports[2 * n + 1]}" for n in range(NODES))
        self.nodes = [
            ApacheKafka(
                properties=PROPERTIES.format(number=n + 1, voters=voters),
                ports=(ports[2 * n], ports[2 * n + 1]),
                heap="-Xms64m -Xmx256m",
            )
            for n in range(NODES)
        ]

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor(NODES) as together:  # no node serves before two are there
                list(together.map(ApacheKafka.start, self.nodes))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connection(self) -> Connection:
        """All three addresses: whichever node is gone, another answers."""
        servers = ",".join(node.connection.bootstrap for node in self.nodes)
        return replace(self.nodes[0].connection, bootstrap=servers)

    def close(self) -> None:
        """Kill all at once: one after the other the last would wait for a quorum that has gone."""
        for node in self.nodes:
            node.stop(signal.SIGKILL)
        for node in self.nodes:
            node.close()
