"""The stack that `make stack` starts, held against what is written about its parts: there is not always an engine to try it on."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
SCHEMA = json.loads((ROOT / "tests" / "docs" / "schemas" / "compose-spec.json").read_text(encoding="utf-8"))

# What the images document, as far as we use it.
INFLUXDB = {
    *(f"DOCKER_INFLUXDB_INIT_{name}" for name in ("MODE", "USERNAME", "PASSWORD", "ORG", "BUCKET", "RETENTION", "ADMIN_TOKEN")),
    *(f"DOCKER_INFLUXDB_INIT_{name}_FILE" for name in ("USERNAME", "PASSWORD", "ADMIN_TOKEN")),
    "INFLUXD_REPORTING_DISABLED",
}
GRAFANA = {
    "GF_SECURITY_ADMIN_USER",
    "GF_SECURITY_ADMIN_PASSWORD__FILE",  # any GF_ setting takes __FILE
    "GF_SECURITY_DISABLE_GRAVATAR",
    "GF_ANALYTICS_REPORTING_ENABLED",
    "GF_ANALYTICS_CHECK_FOR_UPDATES",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
    "GF_USERS_ALLOW_SIGN_UP",
    "GF_AUTH_ANONYMOUS_ENABLED",
    "GF_LOG_MODE",
}
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|HEADERS")


def module(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def filled(value):
    """A value with every ``${NAME:-default}`` at its default."""
    if isinstance(value, dict):
        return {key: filled(one) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one) for one in value]
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) if isinstance(value, str) else value


def test_the_compose_file_follows_the_schema_of_the_specification():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(filled(COMPOSE), SCHEMA)


def test_the_schema_would_notice_a_mistake():
    wrong = {**filled(COMPOSE), "services": {"daemon": {"image": "x", "read-only": True}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_locked_down(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert {"mem_limit", "pids_limit"} <= set(service)
    assert not service.get("privileged")
    assert service.get("read_only") or name == "influxdb"
    if "build" not in service:
        assert service["user"].split(":")[0] != "0"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_and_published_on_the_loopback_only(name):
    service = filled(SERVICES[name])
    assert re.search(r":(local|\d+\.\d+(\.\d+)?)$", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service.get("network_mode") in {None, "service:daemon"}


def test_no_secret_stands_in_the_file():
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            assert not SECRET.search(key) or (key.endswith("_FILE") and value.startswith("/run/secrets/")), key
    assert all(one["file"].startswith("./.stack/") for one in COMPOSE["secrets"].values())
    assert "/.stack/" in (ROOT / ".gitignore").read_text().replace(".stack/", "/.stack/")


def test_every_secret_and_volume_that_is_used_is_declared():
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    named = {volume.split(":")[0] for service in filled(SERVICES).values() for volume in service.get("volumes", [])}
    files = {one for one in named if one.startswith("./")}
    assert named - files == set(COMPOSE["volumes"])
    assert all((ROOT / one).exists() for one in files)


def test_the_settings_of_the_images_are_those_that_they_document():
    assert set(SERVICES["influxdb"]["environment"]) <= INFLUXDB
    assert {key for key in SERVICES["grafana"]["environment"] if key.startswith("GF_")} <= GRAFANA
    config = (ROOT / "observability" / "otel-collector-config.yaml").read_text()
    assert set(SERVICES["otelcol"]["environment"]) <= set(re.findall(r"\$\{env:(\w+)", config))
    known = (ROOT / "observability" / "grafana" / "provisioning" / "datasources" / "influxdb.yaml").read_text()
    assert {"INFLUXDB_V2_URL", "INFLUXDB_V2_ORG", "INFLUXDB_V2_BUCKET"} <= set(re.findall(r"\$(?:__env)?\{(\w+)\}", known))


def test_what_depends_on_something_names_a_service_that_can_be_waited_for():
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            assert "healthcheck" in SERVICES[other]
            assert how["condition"] in {"service_healthy", "service_started"}


def test_the_dockerfile_copies_only_what_is_there_and_what_is_let_in():
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = [one for line in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", dockerfile, re.MULTILINE) for one in line.split()]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert copied
    assert all((ROOT / one).exists() for one in copied)
    assert [one for one in copied if not any(one == let or one.startswith(let + "/") for let in allowed)] == []
    assert re.findall(r"^FROM \S+:(\S+)", dockerfile, re.MULTILINE) == ["3.11-slim-bookworm"] * 2
    assert re.search(r"^USER (?!0)\d+", dockerfile, re.MULTILINE)
    assert "--require-hashes" in dockerfile


def test_the_image_gets_all_that_running_needs_and_nothing_that_only_tests_need():
    lock = module(ROOT / "observability" / "runtime_lock.py")
    text = (ROOT / "requirements.lock").read_text()
    asked = lock.asked_for((ROOT / "pyproject.toml").read_text())
    chosen = set(lock.needed(text, asked))
    assert asked <= chosen
    assert chosen.isdisjoint({"pytest", "playwright", "hypothesis", "mypy", "ruff", "river", "testcontainers", "docker"})
    pinned = set(lock.blocks(text))
    assert lock.runtime_lock().count("--hash=sha256:") >= len(chosen)
    for name in chosen:
        try:
            wanted = requires(name) or []
        except PackageNotFoundError:
            continue
        plain = {re.split(r"[<>=!~\[; (]", one)[0].lower().replace("_", "-") for one in wanted if "extra ==" not in one}
        assert plain & pinned <= chosen, name


def test_the_shell_scripts_are_sound():
    for script in ("observability/stack.sh", "observability/with-secrets.sh"):
        assert (ROOT / script).stat().st_mode & 0o111
        subprocess.run(["sh", "-n", str(ROOT / script)], check=True)


def test_a_secret_in_a_file_becomes_a_setting_and_the_file_is_not_passed_on(tmp_path):
    (tmp_path / "token").write_text("s3cret $x `y`\n")
    environment = {"PATH": "/usr/bin:/bin", "INFLUXDB_V2_TOKEN_FILE": str(tmp_path / "token")}
    command = [str(ROOT / "observability" / "with-secrets.sh"), "env"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "INFLUXDB_V2_TOKEN=s3cret $x `y`\n" in said
    assert "_FILE" not in said


def stack(tmp_path, **environment):
    """`make stack` in a copy of what it needs, with an engine that only notes what it is asked for."""
    for part in ("observability/stack.sh", "docker-compose.yml"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    shutil.copytree(ROOT / "observability" / "grafana" / "dashboards", tmp_path / "observability" / "grafana" / "dashboards")
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text('#!/bin/sh\necho "$* ${IMMUNE_GRAFANA_DASHBOARDS:-}" >> asked\n')
    engine.chmod(0o755)
    command, path = [str(tmp_path / "observability" / "stack.sh"), "up"], f"{engine.parent}:/usr/bin:/bin"
    done = subprocess.run(command, env={"PATH": path, **environment}, capture_output=True, text=True, check=True)
    return done.stdout, (tmp_path / "asked").read_text().splitlines()[-1]


def test_make_stack_makes_secrets_that_others_cannot_reach_starts_and_says_where_things_are(tmp_path):
    said, asked = stack(tmp_path)
    assert asked.strip() == "compose up --detach --build --wait"
    assert (tmp_path / ".stack").stat().st_mode & 0o777 == 0o700
    secrets = {name: (tmp_path / ".stack" / name).read_text() for name in COMPOSE["secrets"]}
    assert all(re.fullmatch("[0-9a-f]{48}", text) for text in secrets.values())
    assert len(set(secrets.values())) == len(secrets)
    assert not any(text in said for text in secrets.values())
    assert all(f":{port}" in said for port in (8711, 3000, 8086, 4318, 4317))


def test_with_another_port_grafana_links_to_where_the_dashboard_is(tmp_path):
    said, asked = stack(tmp_path, IMMUNE_DASHBOARD_PORT="9711")
    assert asked == "compose up --detach --build --wait ./.stack/dashboards"
    assert "http://127.0.0.1:9711" in said
    made = {path.name: path.read_text() for path in (tmp_path / ".stack" / "dashboards").iterdir()}
    assert set(made) == {path.name for path in (ROOT / "observability" / "grafana" / "dashboards").iterdir()}
    assert all("127.0.0.1:9711" in text and "127.0.0.1:8711" not in text for text in made.values())


def test_without_an_engine_make_stack_says_what_to_do(tmp_path):
    for tool in ("sh", "dirname", "cat"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    command = [str(ROOT / "observability" / "stack.sh"), "up"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "needs a container engine" in done.stderr
