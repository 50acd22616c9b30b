"""Reads the bodies of senders we know, when there is memory for what is made of them."""

from atlas.edge.bodies.reader import BodyReader, MinimumRate, parse_export, parse_json

__all__ = ["BodyReader", "MinimumRate", "parse_export", "parse_json"]
