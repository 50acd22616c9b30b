"""Figures as ratios: both sides measured in turn, in one run, best of several. `just bench`."""
