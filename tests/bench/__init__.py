"""Benchmarks. Figures are ratios: both sides run in turn, best of several rounds. `just bench`."""
