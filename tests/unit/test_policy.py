import tomllib
from dataclasses import fields, is_dataclass, replace
from string import printable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immune.core.policy import ContainmentPolicy, DetectionPolicy, Policy
from immune.core.policy_file import canonical, check_policy, policy_keys, policy_version, read_policy, render_policy
from immune.core.toml_locator import locate
from immune.errors import PolicyError
from tests.effort import examples


def problem(text):
    with pytest.raises(PolicyError) as caught:
        read_policy(text, "immune.toml")
    return caught.value


def test_an_empty_file_is_the_default_policy():
    assert read_policy("") == Policy()
    assert read_policy("# nothing\n[modes]\n[detection]\n") == Policy()


def test_what_a_file_leaves_out_keeps_its_default():
    policy = read_policy('mode = "act"\n[detection]\nmin_samples = 30\nclose_after_s = 90\n[modes]\nresearcher = "observe"\n')
    assert policy.mode == "act"
    assert policy.mode_for("researcher") == "observe"
    assert policy.mode_for("coder") == "act"
    assert policy.detection == replace(DetectionPolicy(), min_samples=30, close_after_s=90.0)
    assert policy.containment == ContainmentPolicy()


def test_a_whole_number_is_welcome_where_a_number_is_asked_for():
    assert canonical(read_policy("[containment]\nisolate_at = 4")) == canonical(read_policy("[containment]\nisolate_at = 4.0"))


@pytest.mark.parametrize(
    ("text", "line", "column", "field", "says"),
    [
        ("[detection]\nmin_sample = 3\n", 2, 1, "detection.min_sample", "did you mean min_samples?"),
        ("[detecton]\nmin_samples = 30\n", 1, 1, "detecton", "did you mean detection?"),
        ("\n[severty.money]\nx = 30\n", 2, 1, "severty", "did you mean severity?"),
        ("\n\n  colour = 1\n", 3, 3, "colour", "the policy knows mode"),
        ("[detection]\nmin_samples = 30.0\n", 2, 15, "detection.min_samples", "expected a whole number"),
        ("[detection]\nmin_samples = true\n", 2, 15, "detection.min_samples", "expected a whole number"),
        ("[detection]\n  close_after_s =   false\n", 2, 21, "detection.close_after_s", "expected a number"),
        ("[detection]\nclose_after_s = 'a'\n", 2, 17, "detection.close_after_s", "give 1 to 86400 (s)"),
        ("[detection]\nclose_after_s = 1979-05-27\n", 2, 17, "detection.close_after_s", "expected a number"),
        ("[detection]\nclose_after_s = [1]\n", 2, 17, "detection.close_after_s", "expected a number"),
        ("[detection]\nclose_after_s = nan\n", 2, 17, "detection.close_after_s", "finite"),
        ("[detection]\nclose_after_s = 1e999\n", 2, 17, "detection.close_after_s", "finite"),
        ("[limits]\nmax_clock_skew_s = -1\n", 2, 20, "limits.max_clock_skew_s", "give 0 to 86400 (s)"),
        ("[limits]\nmax_agents = 1" + "0" * 400, 2, 14, "limits.max_agents", "out of range"),
        ("[limits]\nmax_clock_skew_s = 1" + "0" * 400, 2, 20, "limits.max_clock_skew_s", "out of range"),
        ("detection = 3\n", 1, 1, "detection", "write it as [detection]"),
        ("mode = 'on'\n", 1, 8, "mode", "use one of observe, recommend, act"),
        ("mode = 3\n", 1, 8, "mode", "use one of observe, recommend, act"),
        ("modes = 'act'\n", 1, 1, "modes", "write it as [modes]"),
        ("[modes]\n'my agent' = \"obsrve\"\n", 2, 14, 'modes."my agent"', "did you mean observe?"),
        ("[modes.coder]\nmode = 'act'\n", 1, 1, "modes.coder", "not a mode"),
        ("detection.min_samples = 1\n", 1, 25, "detection.min_samples", "give 5 to 10000 (samples)"),
        ("detection = { close_after_s = 5, min_samples = 1 }\n", 1, 48, "detection.min_samples", "out of range"),
        ("[containment]\nisolate_at = 1.5\n", 2, 14, "containment.isolate_at", "keep restrict_at <= isolate_at"),
        ("[containment]\nrestrict_at = 3.5\n", 2, 15, "containment.restrict_at", "keep restrict_at <= isolate_at"),
        ("[containment]\nthrottle_at = 9\nrestrict_at = 8\nisolate_at = 10\n", 3, 15, "containment.restrict_at", "keep throttle_at <= restrict_at"),
        ("[[detection]]\nmin_samples = 30\n", 1, 1, "detection", "write it as [detection]"),
        ("[detection]\ncontainment.isolate_at = 3\n", 2, 1, "detection.containment", "a section of its own: [containment]"),
    ],
)
def test_a_wrong_policy_is_refused_with_line_column_field_and_way_out(text, line, column, field, says):
    error = problem(text)
    assert (error.line, error.column, error.field) == (line, column, field)
    assert says in str(error)
    assert error.way_out
    assert str(error).startswith(f"immune.toml:{line}:{column}: ")
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("mode = \n", 1, 8),
        ("[detection]\nmin_samples = 3\nmin_samples = 4\n", 3, 16),
        ("[detection]\nmin_samples = [\n", 3, 1),
        ("x" * 2_000_000, 1, 1),
        ("mode = " + "[" * 5000, 1, 1),
        ("mode = " + "9" * 10_000, 1, 1),
        ("\x00", 1, 1),
    ],
)
def test_what_is_no_toml_is_refused_where_it_breaks(text, line, column):
    error = problem(text)
    assert (error.line, error.column) == (line, column)
    assert len(str(error)) < 400


def test_every_problem_is_reported_in_the_order_of_the_file():
    text = "[modes]\na = 'x'\n[limits]\nmax_agents = 0\nfoo = 1\n[detection]\nmin_samples = 'a'\n"
    assert [(error.line, error.field) for error in check_policy(text)] == [
        (2, "modes.a"),
        (4, "limits.max_agents"),
        (5, "limits.foo"),
        (7, "detection.min_samples"),
    ]
    assert problem(text).line == 2
    assert check_policy("") == []


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter():
    assert read_policy('\ufeffmode = "act"\r\n[detection]\r\nmin_samples = 20\r\n').detection.min_samples == 20
    assert problem('\ufeffmode = "act"\r\n[detection]\r\nmin_samples = 2\r\n').line == 3


def test_rendering_and_reading_give_the_same_policy_back():
    modes = (("a.b c", "act"), ('quo"te\x7f\n', "observe"))
    policy = Policy(mode="recommend", modes_by_type=modes, detection=replace(DetectionPolicy(), min_samples=77))
    assert read_policy(render_policy(policy)) == policy
    assert read_policy(canonical(policy)) == policy
    assert policy_version(read_policy(render_policy(policy))) == policy_version(policy)


@settings(max_examples=examples(50), deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda s: s.isprintable()), st.sampled_from(["observe", "recommend", "act"]), max_size=4),
    st.integers(5, 10_000),
    st.floats(1e-9, 100.0),
)
def test_any_valid_policy_survives_the_round_trip(modes, min_samples, alarms):
    policy = Policy(
        modes_by_type=tuple(sorted(modes.items())), detection=replace(DetectionPolicy(), min_samples=min_samples, false_alarms_per_agent_day=alarms)
    )
    assert read_policy(canonical(policy)) == policy


PIECES = ["[detection]\n", "min_samples = ", "3", '"', "'", "[", "]", "{", "}", "=", ".", ",", "\n", "#", "\\", " ", '"""', "'''", "a", "1e9"]


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12) | st.text(printable, max_size=40).map(lambda s: [s]))
def test_no_text_gives_anything_but_a_policy_or_a_policy_error(parts):
    text = "".join(parts)
    for error in check_policy(text):
        lines = text.replace("\r\n", "\n").split("\n")
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= max(map(len, lines)) + 2


def test_equal_policies_have_equal_versions_and_a_changed_one_another():
    assert policy_version(Policy()) == policy_version(read_policy("[detection]\nmin_samples = 15\n"))
    assert policy_version(Policy()) != policy_version(read_policy("[detection]\nmin_samples = 16\n"))
    assert policy_version(Policy(modes_by_type=(("a", "act"), ("b", "act")))) == policy_version(Policy(modes_by_type=(("b", "act"), ("a", "act"))))
    assert len(policy_version(Policy())) == 12
    assert int(policy_version(Policy()), 16) >= 0


def test_the_canonical_text_holds_every_key_and_no_comment():
    text = canonical(Policy())
    assert "#" not in text
    parsed = tomllib.loads(text)
    for section, field, value in policy_keys(Policy()):
        assert (parsed[section] if section else parsed)[field.name] == value


def test_every_default_lies_in_its_own_range_and_says_unit_and_reason():
    for section, field, value in policy_keys(Policy()):
        name = f"{section}.{field.name}"
        assert field.metadata["why"], name
        if "options" in field.metadata:
            assert value in field.metadata["options"], name
        else:
            assert field.metadata["low"] <= value <= field.metadata["high"], name
            assert field.metadata["unit"], name


def test_the_order_of_levels_holds_for_the_defaults():
    levels = Policy().containment
    assert levels.throttle_at <= levels.restrict_at <= levels.isolate_at


def test_every_field_of_a_policy_can_be_set_in_a_file():
    for field in fields(Policy()):
        value = getattr(Policy(), field.name)
        if field.name != "modes_by_type" and is_dataclass(value):
            for key in fields(value):
                assert read_policy(f"[{field.name}]\n{key.name} = {getattr(value, key.name)!r}\n") == Policy()


def test_the_locator_finds_keys_in_every_way_of_writing_them():
    text = (
        'a = 1 # x = 2\n"b c".d = """\ny = 1\n"""\n[t."u.v"]\n  k = { l = [ {m = 1}, 2 ], n = \'}\' }\n'
        "[[r]]\nq = 1\n[[r]]\nq = 2\n[r.s]\nz = '''a''''\n\"\\u0041\" = 1\n"
    )
    tomllib.loads(text)
    places = {path: (place.key_line, place.key_column, place.value_line, place.value_column) for path, place in locate(text).items()}
    assert places["a",] == (1, 1, 1, 5)
    assert places["b c", "d"] == (2, 1, 2, 11)
    assert places["t", "u.v"] == (5, 1, 5, 1)
    assert places["t", "u.v", "k"] == (6, 3, 6, 7)
    assert places["t", "u.v", "k", "l", "0", "m"] == (6, 16, 6, 20)
    assert places["t", "u.v", "k", "n"] == (6, 29, 6, 33)
    assert places["r", "1", "q"] == (10, 1, 10, 5)
    assert places["r", "1", "s", "z"] == (12, 1, 12, 5)
    assert places["r", "1", "s", "A"] == (13, 1, 13, 12)
