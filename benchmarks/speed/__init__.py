"""How fast the service is, beside the tools that people would take instead: see :mod:`benchmarks.speed.__main__`."""
