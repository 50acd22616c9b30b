"""The stand-ins: Auth0 and Foundry over real HTTP, strict, and able to misbehave when asked.

They share no code with the clients, so that one cannot make the other's mistake.
"""
