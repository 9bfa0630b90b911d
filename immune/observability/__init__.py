"""What the system says of itself: one table of instruments, one trace per incident, for Prometheus and for OpenTelemetry.

Nothing here decides anything, and nothing here is needed: without OTEL settings no SDK is imported, and with them no
tick ever waits for a collector.
"""
