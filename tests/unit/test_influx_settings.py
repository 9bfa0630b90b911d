"""Where InfluxDB is: the environment before the file, and a wrong value is named without showing the token."""

from __future__ import annotations

import pytest

from immune.errors import InputError
from immune.settings import load_influx, load_settings

FULL = {"INFLUXDB_V2_URL": "http://127.0.0.1:8086/", "INFLUXDB_V2_ORG": "o", "INFLUXDB_V2_TOKEN": "t", "INFLUXDB_V2_BUCKET": "b"}


def test_without_a_url_there_is_none():
    assert load_influx(environment={}) is None
    assert load_settings(environment={"INFLUXDB_V2_ORG": "o"}).influx is None


def test_the_environment_comes_before_the_file(tmp_path):
    config = tmp_path / "immune.toml"
    config.write_text('[influx]\nurl = "http://elsewhere:1"\norg = "file"\nbucket = "file"\nspool_mb = 7\n')
    found = load_influx(config=config, environment={"INFLUXDB_V2_ORG": "env", "INFLUXDB_V2_TOKEN": "t"})
    assert (found.url, found.org, found.bucket, found.spool_mb) == ("http://elsewhere:1", "env", "file", 7)
    assert load_settings(config=config, environment=FULL).influx.url == "http://127.0.0.1:8086"


def test_the_token_is_not_shown():
    assert "secret-token" not in repr(load_influx(environment=FULL | {"INFLUXDB_V2_TOKEN": "secret-token"}))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[influx]\nurl = "127.0.0.1:8086"', "INFLUXDB_V2_URL"),
        ('[influx]\nurl = "http://a"', "INFLUXDB_V2_ORG"),
        ('[influx]\nurl = "http://a"\norg = "o"\nspool_mb = 0', "influx.spool_mb"),
        ('[influx]\nurl = "http://a"\norg = "o"\npassword = "x"', "influx"),
        ('[influx]\nurl = "http://a"\norg = "o"\ntoken = 7', "influx.token"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, text, field):
    config = tmp_path / "immune.toml"
    config.write_text(text)
    with pytest.raises(InputError) as error:
        load_influx(config=config, environment={})
    assert error.value.field == field
