"""What is known and how it is computed: plain Python, NumPy and torch, without Kafka, HTTP or Prometheus."""

import os

# Torch's threads wait for one another. Left alone they spin for long, and on cores that the loops of the roles (or
# anybody else) also want, a batch then takes two to three times as long; a microsecond of spinning is as quick on idle
# cores, and quicker than ten on busy ones. Must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
