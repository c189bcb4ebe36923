"""Everything that reads Kafka: one file a role, and the one loop that runs them all."""
