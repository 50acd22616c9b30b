"""Hooks of schemathesis: send lines of JSON as plain text."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
