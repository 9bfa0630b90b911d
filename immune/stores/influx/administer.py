"""Setting an InfluxDB up for Immune, again and again with the same result: buckets, downsampling, a token of least rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from influxdb_client.client.bucket_api import BucketsApi
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.authorization import Authorization
from influxdb_client.domain.bucket import Bucket
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.permission import Permission
from influxdb_client.domain.permission_resource import PermissionResource
from influxdb_client.domain.task_create_request import TaskCreateRequest
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from immune.errors import StoreUnavailableError, UnknownIdError
from immune.settings import InfluxSettings
from immune.stores.influx.asking import refusal, unreached
from immune.stores.influx.escape import quoted
from immune.stores.influx.facts import MEASUREMENTS
from immune.stores.influx.points import EVENT
from immune.stores.influx.vitals import PROFILE, VITALS
from immune.stores.influx.words import no_influx, refused

TIMEOUT_MS = 20_000
TASK = "immune-downsample-1m"
TOKEN = "immune daemon"  # noqa: S105  (its description)
DAY_S = 86_400

_FLUX = """option task = {{name: {name}, every: 1m, offset: 20s}}

from(bucket: {bucket})
    |> range(start: -3m)
    |> filter(fn: (r) => r._measurement == "agent_vitals" and r._field != "status" and r._field != "step")
    |> aggregateWindow(every: 1m, fn: mean, createEmpty: false)
    |> to(bucket: {long}, org: {org})
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """What is there now. `token` is only given when it was made by this call."""

    bucket: str
    long_bucket: str
    retention_days: int
    task: str
    made: tuple[str, ...]
    token: str = ""


@contextmanager
def client_of(target: InfluxSettings, timeout_ms: int = TIMEOUT_MS, *, rights: str = "administer the organisation") -> Iterator[InfluxDBClient]:
    """The official client; its errors come out as StoreUnavailableError. `rights` is what the token must be good for."""
    client = InfluxDBClient(url=target.url, token=target.token, org=target.org, timeout=timeout_ms)
    try:
        yield client
    except ApiException as error:
        raise refusal(target, error, rights) from None
    except (HTTPError, OSError) as error:
        raise unreached(target, error) from None
    finally:
        client.close()


def set_up(target: InfluxSettings, *, retention_days: int = 0, with_token: bool = True) -> SetUp:
    """Make what is missing and change what differs. Needs a token that may administer. Raises StoreUnavailableError, UnknownIdError."""
    long_bucket = f"{target.bucket}_1m"
    with client_of(target) as client:
        org_id = _organisation(client, target)
        made: list[str] = []
        bucket = _bucket(client, org_id, target.bucket, retention_days, made)
        long = _bucket(client, org_id, long_bucket, 0, made)
        _task(client, org_id, target, long_bucket, made)
        token = _token(client, org_id, (bucket, long), made) if with_token else ""
    return SetUp(bucket=target.bucket, long_bucket=long_bucket, retention_days=retention_days, task=TASK, made=tuple(made), token=token)


def _organisation(client: InfluxDBClient, target: InfluxSettings) -> str:
    try:
        found = client.organizations_api().find_organizations(org=target.org)
    except ApiException as error:
        if error.status != 404:
            raise
        found = []
    if not found:
        raise UnknownIdError("no such organisation", field="INFLUXDB_V2_ORG", value=target.org, way_out="name one that this token may see")
    return str(found[0].id)


def _bucket(client: InfluxDBClient, org_id: str, name: str, retention_days: int, made: list[str]) -> Bucket:
    buckets = client.buckets_api()
    rules = [BucketRetentionRules(type="expire", every_seconds=retention_days * DAY_S)]
    found = _named(buckets, org_id, name)
    if not found:
        made.append(f"bucket {name}")
        fresh: Bucket = buckets.create_bucket(bucket_name=name, org=org_id, retention_rules=rules)
        return fresh
    kept = found[0].retention_rules
    if (kept[0].every_seconds if kept else 0) != retention_days * DAY_S:
        made.append(f"retention of bucket {name}")
        found[0].retention_rules = rules
        buckets.update_bucket(found[0])
    bucket: Bucket = found[0]
    return bucket


def _named(buckets: BucketsApi, org_id: str, name: str) -> list[Bucket]:
    try:
        found: list[Bucket] = buckets.find_buckets(name=name, org_id=org_id).buckets
    except ApiException as error:
        if error.status != 404:
            raise
        return []
    return found


def _task(client: InfluxDBClient, org_id: str, target: InfluxSettings, long_bucket: str, made: list[str]) -> None:
    flux = _FLUX.format(name=quoted(TASK), bucket=quoted(target.bucket), long=quoted(long_bucket), org=quoted(target.org))
    tasks = client.tasks_api()
    found = [task for task in tasks.find_tasks(name=TASK, org_id=org_id) if quoted(target.bucket) in (task.flux or "")]
    if not found:
        made.append(f"task {TASK}")
        tasks.create_task(task_create_request=TaskCreateRequest(org_id=org_id, flux=flux, status="active"))
    elif found[0].flux != flux:
        made.append(f"task {TASK}")
        found[0].flux = flux
        tasks.update_task(found[0])


def _token(client: InfluxDBClient, org_id: str, buckets: tuple[Bucket, ...], made: list[str]) -> str:
    description = f"{TOKEN} {buckets[0].name}"
    authorizations = client.authorizations_api()
    if any(one.description == description for one in authorizations.find_authorizations(org_id=org_id)):
        return ""
    made.append(f"token {description!r}")
    permissions = [
        Permission(action=action, resource=PermissionResource(type="buckets", id=bucket.id, org_id=org_id))
        for bucket in buckets
        for action in ("read", "write")
    ]
    authorization = Authorization(org_id=org_id, permissions=permissions, description=description)
    return str(authorizations.create_authorization(authorization=authorization).token)


def forget_run(target: InfluxSettings, run_id: str) -> None:
    """Delete all points of a run. Raises StoreUnavailableError."""
    with client_of(target) as client:
        for measurement in (VITALS, PROFILE, EVENT, *MEASUREMENTS):
            predicate = f"_measurement={quoted(measurement)} AND run_id={quoted(run_id)}"
            client.delete_api().delete("1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z", predicate, bucket=target.bucket, org=target.org)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What `immune doctor` wants to know. `error` is why the rest could not be found out."""

    version: str = ""
    skew_s: float = 0.0
    error: str = ""
    mend: str = ""


def look(target: InfluxSettings, now_us: int) -> Found:
    """Server, organisation, token, bucket and the difference of the clocks, in this order; the first that is wrong is told."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        with client_of(target, 5000, rights="read and write this bucket") as client:
            health = client.api_client.call_api("/health", "GET", auth_settings=[], _preload_content=False, _return_http_data_only=True)
            if not {"X-Influxdb-Version", "Date"} <= {name.title() for name in health.headers}:
                raise no_influx(target)
            version = str(health.headers["X-Influxdb-Version"]).removeprefix("v")
            skew_s = parsedate_to_datetime(health.headers["Date"]).timestamp() - now_us / 1e6
            if not client.buckets_api().find_buckets(name=target.bucket, org=target.org).buckets:
                raise refused(target, 0, "no such bucket")
    except StoreUnavailableError as error:
        return Found(error=f"{error.field}: {error.what}", mend=error.way_out)
    return Found(version=version, skew_s=skew_s)
