"""The columns of `export` and `payload`, in the order of the codec's named tuples."""

IMMUTABLE_COLUMNS = "id, user, at, ingested, rejected, bytes"
COLUMNS = f"{IMMUTABLE_COLUMNS}, label, status, rid, file, file_bytes"
HAS_PAYLOAD = "EXISTS (SELECT 1 FROM payload WHERE payload.number = export.number)"
SELECT_PAYLOAD = "(SELECT sealed FROM payload WHERE payload.number = export.number)"
INSERT_PAYLOAD = "INSERT INTO payload (number, fixed, label, sealed) VALUES (?, ?, ?, ?)"
