"""The benchmarks behind every figure that Strata states: ``make bench``."""
