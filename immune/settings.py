"""Where things are and on which port: file < environment < flag. What the system may do is in the policy, not here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from immune.core.policy import Policy
from immune.core.policy_file import read_policy
from immune.errors import InputError

DEFAULT_DATA_DIR = Path(".immune")
DEFAULT_PORT = 8710
WITNESS_NAME = "witness.log"
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process. Port 0 takes a free one. `witness` is where heads of the journal are noted beside it."""

    data_dir: Path = DEFAULT_DATA_DIR
    port: int = DEFAULT_PORT
    witness: Path | None = None

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
    chosen = data_dir or Path(env.get("IMMUNE_DATA_DIR") or folder)
    return Settings(data_dir=chosen, port=_port(port, env.get("IMMUNE_PORT"), table.get("port")), witness=Path(witness) if witness else None)


def _daemon_table(config: Path | None) -> Mapping[str, object]:
    if config is None:
        return {}
    try:
        table = tomllib.loads(read_policy_text(config, "--config")).get("daemon", {})
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}", field="--config", value=str(config), way_out="see https://toml.io") from None
    unknown = set(table) - {"data_dir", "port", "witness"} if isinstance(table, dict) else {"daemon"}
    if unknown:
        raise InputError("unknown key in [daemon]", field="daemon", value=min(unknown), way_out="data_dir, port and witness are known")
    return dict(table)


def _port(flag: int | None, environment: str | None, configured: object) -> int:
    named = (("--port", flag), ("IMMUNE_PORT", environment or None), ("daemon.port", configured))
    field, value = next(((name, given) for name, given in named if given is not None), ("", DEFAULT_PORT))
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
