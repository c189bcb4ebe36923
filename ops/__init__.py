"""What a person operates: the command line, settings, probes, the embedded broker, evaluation, benchmarks."""
