"""Journals written by each schema version, which every later version must open: see make.py, and
make_postgres.py for PostgreSQL.
"""
