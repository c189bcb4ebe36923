"""What is known and how it is computed: plain Python, NumPy and torch, without Kafka, HTTP or Prometheus."""

import os

# Torch's threads wait for one another. Left alone they spin for long, and on cores that the loops of the roles (or
# anybody else) also want, a batch then takes two to three times as long; some 10 µs of spinning are as quick on idle
# cores. Must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
