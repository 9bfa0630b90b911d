"""Where things are and on which port: file < environment < flag. What the system may do is in the policy, not here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from immune.core.policy import Policy
from immune.core.policy_file import read_policy
from immune.errors import InputError

DEFAULT_DATA_DIR = Path(".immune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process."""

    data_dir: Path = DEFAULT_DATA_DIR


def load_settings(*, data_dir: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment and flags; a flag that is None was not given."""
    env = os.environ if environment is None else environment
    chosen = data_dir or (Path(env["IMMUNE_DATA_DIR"]) if env.get("IMMUNE_DATA_DIR") else DEFAULT_DATA_DIR)
    return Settings(data_dir=chosen)


def load_policy(path: Path | None) -> Policy:
    """The policy of a file, or the defaults. Raises InputError when it cannot be read, PolicyError when it is wrong."""
    if path is None:
        return Policy()
    return read_policy(read_policy_text(path), str(path))


def read_policy_text(path: Path) -> str:
    """The text of a policy file. Raises InputError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the policy: {error.strerror}", field="--policy", value=str(path), way_out="give a readable TOML file") from None
    except UnicodeDecodeError:
        raise InputError("the policy is not UTF-8 text", field="--policy", value=str(path), way_out="save it as UTF-8") from None
