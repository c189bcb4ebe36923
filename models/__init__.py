"""What is known and how it is computed: plain Python, NumPy and torch, without Kafka, HTTP or Prometheus."""
