from __future__ import annotations

import json
import stat

import pytest
from argon2 import PasswordHasher

from immune.errors import InputError, RefusedError, StoreUnavailableError, UnknownIdError
from immune.stores.keyring import Keyring
from immune.stores.people import SESSION_S, SESSIONS_PER_PERSON, US, PeopleStore
from immune.stores.tokens import TokenStore

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
GOOD = "correct horse battery"
NOW_US = 1_767_225_600 * US


@pytest.fixture
def people(tmp_path):
    return PeopleStore(tmp_path, QUICK)


def test_a_password_is_kept_as_an_argon2id_hash_that_only_the_owner_may_read(people):
    people.add("ada", "approver", GOOD)
    text = people.path.read_text()
    assert GOOD not in text
    assert json.loads(text)["people"]["ada"]["hash"].startswith("$argon2id$")
    assert stat.S_IMODE(people.path.stat().st_mode) == 0o600
    assert people.check("ada", GOOD) is not None


def test_the_usual_hash_costs_what_the_rfc_asks_for(tmp_path):
    hasher = PeopleStore(tmp_path).hasher
    assert (hasher.memory_cost, hasher.time_cost) >= (64 * 1024, 3)


@pytest.mark.parametrize(("name", "password"), [("ada", GOOD + "x"), ("ada", ""), ("nobody", GOOD), ("", ""), ("ada", "x" * 10_000)])
def test_whoever_is_not_right_is_nobody(people, name, password):
    people.add("ada", "viewer", GOOD)
    assert people.check(name, password) is None


def test_a_name_that_nobody_has_costs_a_check_too(tmp_path):
    checks = []

    class Counting:
        def hash(self, password):
            return QUICK.hash(password)

        def verify(self, known, password):
            checks.append(known)
            return QUICK.verify(known, password)

    people = PeopleStore(tmp_path, Counting())
    people.add("ada", "viewer", GOOD)
    people.check("ada", "wrong password")
    people.check("nobody", "wrong password")
    assert len(checks) == 2


@pytest.mark.parametrize("password", ["short", "x" * 300, "aaaaaaaaaaaa", "adaadaadaada", "with\nnewline and more"])
def test_a_password_that_would_be_guessed_is_refused_and_not_told_back(people, password):
    with pytest.raises(InputError) as refused:
        people.add("ada", "viewer", password)
    assert password not in str(refused.value)
    assert people.roles() == {}


def test_bad_names_and_roles_are_refused(people):
    for name, role, kind in (("", "viewer", InputError), ("a b", "viewer", InputError), ("ada", "king", InputError), ("ada", "agent", InputError),
                             ("admin", "admin", RefusedError)):  # fmt: skip
        with pytest.raises(kind):
            people.add(name, role, GOOD)


def test_a_session_ends_with_its_time_with_its_person_and_with_another_password(people):
    people.add("ada", "approver", GOOD)
    who = people.check("ada", GOOD)
    session = people.begin(who, NOW_US)
    assert people.find(session.token, NOW_US).role == "approver"
    assert people.find(session.token[:-1] + "?", NOW_US) is None
    assert people.find(session.token, NOW_US + round(SESSION_S * US)) is None
    session = people.begin(who, NOW_US)
    people.end(session.token)
    assert people.find(session.token, NOW_US) is None
    session = people.begin(who, NOW_US)
    people.add("ada", "approver", GOOD + " staple")
    assert people.find(session.token, NOW_US) is None, "another password ends what the old one began"
    session = people.begin(people.check("ada", GOOD + " staple"), NOW_US)
    people.remove("ada")
    assert people.find(session.token, NOW_US) is None


@pytest.mark.fault("F41")
def test_a_role_that_is_taken_away_is_gone_from_every_session_at_once(people, tmp_path):
    people.add("ada", "approver", GOOD)
    ring = Keyring(TokenStore(tmp_path), people, lambda: NOW_US)
    assert "ada" in ring.approvers()
    elsewhere = PeopleStore(tmp_path, QUICK)
    session = people.begin(people.check("ada", GOOD), NOW_US)
    elsewhere.add("ada", "viewer", GOOD)
    assert "ada" not in ring.approvers()
    assert ring.find(session.token) is None
    with pytest.raises(UnknownIdError):
        elsewhere.remove("bob")


def test_sessions_are_bounded_by_person(people):
    people.add("ada", "viewer", GOOD)
    who = people.check("ada", GOOD)
    tokens = [people.begin(who, NOW_US).token for _ in range(SESSIONS_PER_PERSON + 5)]
    assert people.sessions == SESSIONS_PER_PERSON
    assert people.find(tokens[0], NOW_US) is None
    assert people.find(tokens[-1], NOW_US) is not None


def test_a_damaged_file_lets_nobody_in_and_is_never_overwritten(people):
    people.add("ada", "viewer", GOOD)
    people.path.write_text('{"people": {"ada": {"role": "admin", "hash": "plain"}}}')
    assert people.check("ada", "plain") is None
    assert "damaged" in people.broken
    with pytest.raises(StoreUnavailableError):
        people.add("bob", "viewer", GOOD)
    assert "plain" in people.path.read_text()
