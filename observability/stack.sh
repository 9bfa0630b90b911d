#!/bin/sh
# `make stack`: InfluxDB, collector, Grafana, the daemon over a simulated fleet, and the dashboard; then says where they are.
#   observability/stack.sh up | down | addresses
set -eu
cd "$(dirname "$0")/.."

engine() {
  for engine in docker podman; do
    if $engine info >/dev/null 2>&1 && $engine compose version >/dev/null 2>&1; then
      echo "$engine compose"
      return
    fi
  done
  cat >&2 <<'TEXT'
make stack needs a container engine with compose, and none answers here.
  Docker:  https://docs.docker.com/engine/install/ (then: docker compose version)
  Podman:  podman with podman-compose
Without one everything still runs by itself: `make demo`, and docs/observability.md says how to name a collector and an InfluxDB you have.
TEXT
  exit 3
}

# one file a secret, readable by the containers' users, in a folder that nobody else may enter
secret() {
  [ -s ".stack/$1" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > ".stack/$1"
  chmod 0444 ".stack/$1"
}

# Grafana's links to the dashboard are text in files: where that listens on another port, Grafana gets files of its own
dashboards() {
  [ "${IMMUNE_DASHBOARD_PORT:-8711}" = 8711 ] && return
  mkdir -p .stack/dashboards
  for file in observability/grafana/dashboards/*.json; do
    sed "s|http://127.0.0.1:8711|http://127.0.0.1:$IMMUNE_DASHBOARD_PORT|g" "$file" > ".stack/dashboards/${file##*/}"
  done
  chmod 0755 .stack/dashboards
  chmod 0444 .stack/dashboards/*.json
  export IMMUNE_GRAFANA_DASHBOARDS=./.stack/dashboards
}

addresses() {
  cat <<TEXT

  dashboard  http://127.0.0.1:${IMMUNE_DASHBOARD_PORT:-8711}   log in with a token: $1 exec daemon immune tokens create you --role approver
  Grafana    http://127.0.0.1:${IMMUNE_GRAFANA_PORT:-3000}   admin, password in .stack/grafana_password
  InfluxDB   http://127.0.0.1:${IMMUNE_INFLUXDB_PORT:-8086}   admin, password in .stack/influxdb_password, bucket ${INFLUXDB_V2_BUCKET:-immune}
  OTLP       http://127.0.0.1:${IMMUNE_OTLP_HTTP_PORT:-4318} (HTTP), 127.0.0.1:${IMMUNE_OTLP_GRPC_PORT:-4317} (gRPC); what arrives: $1 logs otelcol

  stop it with: make stack-down
TEXT
}

compose=$(engine)
case ${1:-up} in
  up)
    umask 077
    mkdir -p .stack
    secret influxdb_password
    secret influxdb_token
    secret grafana_password
    dashboards
    $compose up --detach --build --wait
    addresses "$compose"
    ;;
  down) $compose down ;;
  addresses) addresses "$compose" ;;
  *) echo "usage: observability/stack.sh up | down | addresses" >&2; exit 2 ;;
esac
