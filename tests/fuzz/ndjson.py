"""Tells schemathesis, which loads it, that lines of JSON are sent as any text is."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
