"""How fast the software is, beside the plain form of the same computation: `python -m benchmarks --help`."""
