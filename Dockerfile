# The daemon and the dashboard, in one image: docker-compose.yml runs it twice.
#   docker build -t immune .
#   docker run --rm immune --help
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/immune
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY observability/runtime_lock.py observability/
# what is pinned, by hash; tests and benchmarks stay outside
RUN python observability/runtime_lock.py > runtime.lock && /opt/immune/bin/pip install --require-hashes -r runtime.lock
COPY immune immune
COPY simulation simulation
COPY showcase showcase
COPY dashboard dashboard
RUN /opt/immune/bin/pip install --no-deps --no-build-isolation . && /opt/immune/bin/python -m compileall -q /opt/immune/lib

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin immune && install -d -o immune -g immune -m 0700 /data
COPY --from=build /opt/immune /opt/immune
COPY main.py demo.py /srv/immune/
COPY --chmod=0555 observability/with-secrets.sh /usr/local/bin/with-secrets
ENV PATH=/opt/immune/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 IMMUNE_DATA_DIR=/data
WORKDIR /srv/immune
USER 10001:10001
VOLUME /data
ENTRYPOINT ["with-secrets", "immune"]
CMD ["run"]
