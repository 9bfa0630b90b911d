#!/bin/sh
# Runs a command with secrets from files: NAME_FILE=/run/secrets/x becomes NAME, for the names below and no others.
set -eu
for name in INFLUXDB_V2_TOKEN OTEL_EXPORTER_OTLP_HEADERS; do
  eval "file=\${${name}_FILE:-}"
  if [ -n "$file" ]; then
    value=$(cat "$file")
    export "$name=$value"
    unset "${name}_FILE"
  fi
done
exec "$@"
