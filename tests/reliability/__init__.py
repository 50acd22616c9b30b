"""Disk failures under the journal: lost writes, errors, no space."""
