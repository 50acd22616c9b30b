"""Foundry, spoken to over its public API (v2).

`token.py` is who we are, `calls.py` how anything is asked, `dataset.py` what: it answers the ports
Dataset and History.
"""
