from __future__ import annotations

import json

import pytest

from immune.core.commands import Principal
from immune.errors import InputError, RefusedError, StoreUnavailableError, UnknownIdError
from immune.stores.tokens import TokenStore


@pytest.fixture
def store(tmp_path):
    made = TokenStore(tmp_path)
    made.ensure_admin()
    return made


def test_the_admins_token_is_made_once_and_only_its_owner_may_read_it(store):
    first = store.admin_token()
    store.ensure_admin()
    assert store.admin_token() == first
    assert store.admin_path.stat().st_mode & 0o777 == 0o600
    assert store.find(first) == Principal(name="admin", role="admin")


def test_an_admins_token_that_others_could_read_is_closed_to_them(store):
    store.admin_path.chmod(0o644)
    store.ensure_admin()
    assert store.admin_path.stat().st_mode & 0o777 == 0o600


def test_a_token_is_shown_once_and_nowhere_on_disk(store):
    token = store.create("ada", "approver")
    assert store.find(token) == Principal(name="ada", role="approver")
    secret = token.split("_", 2)[2]
    for path in store.data_dir.iterdir():
        assert secret not in path.read_text(errors="replace"), path
    assert store.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "x", "imm__", "imm_admin_", "imm_0123456789ab_" + "a" * 43, "a" * 600, "imm_\udcff_" + "b" * 40, "\x00" * 20, "ü" * 30]
)
def test_what_is_no_token_is_nobodys(store, text):
    store.create("ada", "approver")
    assert store.find(text) is None


def test_one_changed_character_makes_it_nobodys(store):
    token = store.create("ada", "viewer")
    for place in (5, 20, len(token) - 1):
        other = "A" if token[place] != "A" else "B"
        assert store.find(token[:place] + other + token[place + 1 :]) is None


def test_a_revoked_token_is_nobodys_at_once_in_every_process(store, tmp_path):
    elsewhere = TokenStore(tmp_path)
    token = store.create("ada", "approver")
    assert elsewhere.find(token) is not None
    assert elsewhere.approvers() == {"admin", "ada"}
    store.revoke("ada")
    assert elsewhere.find(token) is None
    assert elsewhere.approvers() == {"admin"}


def test_roles_are_listed_and_only_approvers_and_admins_approve(store):
    for name, role in (("vi", "viewer"), ("op", "operator"), ("ap", "approver"), ("root", "admin"), ("agent-1", "agent")):
        store.create(name, role)
    assert store.roles() == {"admin": "admin", "vi": "viewer", "op": "operator", "ap": "approver", "root": "admin", "agent-1": "agent"}
    assert store.approvers() == {"admin", "ap", "root"}


def test_a_name_has_one_token(store):
    store.create("ada", "viewer")
    with pytest.raises(RefusedError, match="revoke it first"):
        store.create("ada", "admin")
    store.revoke("ada")
    store.create("ada", "operator")
    assert store.roles()["ada"] == "operator"


@pytest.mark.parametrize(
    ("name", "role"),
    [("", "viewer"), ("a b", "viewer"), ("a" * 65, "viewer"), ("../x", "viewer"), ("ada", "king"), ("ada\n", "viewer"), ("", "agent")],
)
def test_bad_names_and_roles_are_refused(store, name, role):
    with pytest.raises(InputError):
        store.create(name, role)


def test_nobody_else_may_be_called_admin(store):
    with pytest.raises(RefusedError):
        store.create("admin", "viewer")


def test_an_agents_name_is_its_id_hostile_or_not(store):
    token = store.create("a/b <script>", "agent")
    assert store.find(token) == Principal(name="a/b <script>", role="agent")


def test_revoking_nobody_names_who_there_is(store):
    store.create("ada", "viewer")
    with pytest.raises(UnknownIdError, match="ada"):
        store.revoke("bob")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        '{"tokens": []}',
        '{"tokens": {"x": {"role": "admin"}}}',
        '{"tokens": {"x": {"role": "king", "id": "1", "salt": "00", "digest": "00"}}}',
        "\udcff",
    ],
)
def test_a_damaged_file_lets_nobody_in_but_the_admin_and_is_never_overwritten(store, text):
    token = store.create("ada", "approver")
    store.path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert store.find(token) is None
    assert store.approvers() == {"admin"}
    assert store.broken
    assert store.find(store.admin_token()) is not None
    with pytest.raises(StoreUnavailableError):
        store.create("bob", "viewer")
    assert store.path.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_a_new_admins_token_takes_over_at_once(store):
    old = store.admin_token()
    fresh = "a-new-token-of-some-length"
    other = store.admin_path.with_name("x")
    other.write_text(fresh + "\n")
    other.replace(store.admin_path)
    assert store.find(old) is None
    assert store.find(fresh) == Principal(name="admin", role="admin")


def test_without_a_file_there_is_no_admin(tmp_path):
    store = TokenStore(tmp_path)
    assert store.find("imm_admin_whatever-it-may-be") is None
    assert store.roles() == {}
    with pytest.raises(UnknownIdError, match="start the daemon"):
        store.admin_token()


def test_an_empty_admins_file_lets_nobody_in(store):
    store.admin_path.write_text("\n")
    assert store.find("") is None
    assert store.find("\n") is None


def test_what_is_kept_of_a_token_has_its_own_salt(store):
    for name in ("ada", "bob"):
        store.create(name, "viewer")
    kept = json.loads(store.path.read_text())["tokens"]
    assert kept["ada"]["salt"] != kept["bob"]["salt"]
    assert set(kept["ada"]) == {"role", "id", "salt", "digest", "created_at"}
