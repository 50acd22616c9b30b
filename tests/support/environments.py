"""Minimal environment variables for a start of the service."""

ENOUGH = {
    "AUTH0_DOMAIN": "atlas.eu.auth0.com",
    "FOUNDRY_HOST": "atlas.palantirfoundry.com",
    "FOUNDRY_CLIENT_ID": "client",
    "FOUNDRY_CLIENT_SECRET": "a-secret",
}
