"""Emulators of Auth0 and Foundry over real HTTP, with faults on request, and PostgreSQL servers.

The emulators share no code with the clients, so that both cannot contain the same mistake.
"""
