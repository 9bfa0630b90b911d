"""InfluxDB 2: vitals written beside the tick, the journal mirrored from its outbox, and both read back by run."""
