"""The control API of the daemon: ingest, gate, decisions, reading, live stream. See `immune.api.app.Api`."""
