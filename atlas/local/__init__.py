"""Emulators of Auth0 and Foundry over real HTTP: strict, with faults on request.

They share no code with the clients, so that both cannot contain the same mistake.
"""
