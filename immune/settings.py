"""Where things are and on which port: file < environment < flag. What the system may do is in the policy, not here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from immune.core.policy import Policy
from immune.core.policy_file import read_policy
from immune.errors import InputError

DEFAULT_DATA_DIR = Path(".immune")
DEFAULT_PORT = 8710
DEFAULT_DASHBOARD_PORT = 8711
WITNESS_NAME = "witness.log"
PORT_MAX = 65_535
DEFAULT_BUCKET = "immune"
DEFAULT_SPOOL_MB = 2048
"""An hour of 10,000 agents at 1 Hz takes about 1.5 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxSettings:
    """Where the run is mirrored to. `spool_mb` is how much may wait on the disk while the server is away."""

    url: str
    org: str
    bucket: str
    token: str = field(default="", repr=False)
    spool_mb: int = DEFAULT_SPOOL_MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process. Port 0 takes a free one. `witness` is where heads of the journal are noted beside it."""

    data_dir: Path = DEFAULT_DATA_DIR
    port: int = DEFAULT_PORT
    dashboard_port: int = DEFAULT_DASHBOARD_PORT
    witness: Path | None = None
    influx: InfluxSettings | None = None
    dashboard_url: str = ""

    @property
    def dashboard_address(self) -> str:
        """Where people reach the dashboard, for the links in notices."""
        return self.dashboard_url or f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def witness_path(self) -> Path:
        """Where heads are witnessed: in the data directory unless another place was named."""
        return self.witness or self.data_dir / WITNESS_NAME


def load_settings(
    *, config: Path | None = None, data_dir: Path | None = None, port: int | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Settings from ``[daemon]`` of a file, the environment and flags; a flag that is None was not given.

    Raises InputError, naming where the wrong value stands.
    """
    env = os.environ if environment is None else environment
    table = _daemon_table(config)
    folder = table.get("data_dir", str(DEFAULT_DATA_DIR))
    if not isinstance(folder, str) or not folder:
        raise InputError("not a directory", field="daemon.data_dir", value=folder, way_out='for example data_dir = ".immune"')
    witness = table.get("witness")
    if witness is not None and (not isinstance(witness, str) or not witness):
        raise InputError("not a file", field="daemon.witness", value=witness, way_out='for example witness = "/var/log/immune-heads.log"')
    dashboard_url = table.get("dashboard_url", "")
    if not isinstance(dashboard_url, str) or (dashboard_url and not dashboard_url.startswith(("http://", "https://"))):
        way_out = 'for example dashboard_url = "https://immune.example.org"'
        raise InputError("not an address", field="daemon.dashboard_url", value=dashboard_url, way_out=way_out)
    chosen = data_dir or Path(env.get("IMMUNE_DATA_DIR") or folder)
    return Settings(
        data_dir=chosen,
        port=_port(port, env.get("IMMUNE_PORT"), table.get("port")),
        dashboard_port=_port(
            None, env.get("IMMUNE_DASHBOARD_PORT"), table.get("dashboard_port"), name="dashboard_port", default=DEFAULT_DASHBOARD_PORT
        ),
        witness=Path(witness) if witness else None,
        influx=load_influx(config=config, environment=env),
        dashboard_url=dashboard_url.rstrip("/"),
    )


def load_influx(*, config: Path | None = None, environment: Mapping[str, str] | None = None) -> InfluxSettings | None:
    """Where to mirror to, from ``[influx]`` of a file and ``INFLUXDB_V2_URL _ORG _TOKEN _BUCKET``; None when no URL is given.

    Raises InputError, naming where the wrong value stands.
    """
    env = os.environ if environment is None else environment
    table = _table(config, "influx", ("url", "org", "token", "bucket", "spool_mb"))
    given = {name: env.get(f"INFLUXDB_V2_{name.upper()}") or table.get(name) or "" for name in ("url", "org", "token", "bucket")}
    if not given["url"]:
        return None
    for name, value in given.items():
        if not isinstance(value, str) or not value.isprintable():
            raise InputError("not text", field=f"influx.{name}", value="…" if name == "token" else value, way_out="give text in quotes")
    url, org, token, bucket = (str(given[name]) for name in ("url", "org", "token", "bucket"))
    if not url.startswith(("http://", "https://")):
        raise InputError("not an address", field="INFLUXDB_V2_URL", value=url, way_out="for example http://127.0.0.1:8086")
    if not org:
        raise InputError("the organisation is missing", field="INFLUXDB_V2_ORG", value=org, way_out="name the organisation that owns the bucket")
    spool_mb = table.get("spool_mb", DEFAULT_SPOOL_MB)
    if isinstance(spool_mb, bool) or not isinstance(spool_mb, int) or not 1 <= spool_mb <= 1_000_000:
        raise InputError("not a size", field="influx.spool_mb", value=spool_mb, way_out="give 1 to 1000000 (megabytes)")
    return InfluxSettings(url=url.rstrip("/"), org=org, token=token, bucket=bucket or DEFAULT_BUCKET, spool_mb=spool_mb)


def _daemon_table(config: Path | None) -> Mapping[str, object]:
    return _table(config, "daemon", ("data_dir", "port", "dashboard_port", "dashboard_url", "witness"))


def _table(config: Path | None, name: str, keys: tuple[str, ...]) -> Mapping[str, object]:
    if config is None:
        return {}
    try:
        table = tomllib.loads(read_policy_text(config, "--config")).get(name, {})
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}", field="--config", value=str(config), way_out="see https://toml.io") from None
    unknown = set(table) - set(keys) if isinstance(table, dict) else {name}
    if unknown:
        raise InputError(f"unknown key in [{name}]", field=name, value=min(unknown), way_out=f"{', '.join(keys[:-1])} and {keys[-1]} are known")
    return dict(table)


def _port(flag: int | None, environment: str | None, configured: object, *, name: str = "port", default: int = DEFAULT_PORT) -> int:
    named = (("--port", flag), (f"IMMUNE_{name.upper()}", environment or None), (f"daemon.{name}", configured))
    field, value = next(((source, given) for source, given in named if given is not None), ("", default))
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= PORT_MAX:
        raise InputError("not a port", field=field, value=value, way_out="give 0 (any free one) to 65535")
    return value


def load_policy(path: Path | None, flag: str = "--policy") -> Policy:
    """The policy of a file, or the defaults; `flag` is where the user named it.

    Raises InputError when it cannot be read, PolicyError when it is wrong.
    """
    if path is None:
        return Policy()
    return read_policy(read_policy_text(path, flag), str(path))


def read_policy_text(path: Path, flag: str = "FILE") -> str:
    """The text of a policy file. Raises InputError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the policy: {error.strerror}", field=flag, value=str(path), way_out="give a readable TOML file") from None
    except UnicodeDecodeError:
        raise InputError("the policy is not UTF-8 text", field=flag, value=str(path), way_out="save it as UTF-8") from None
