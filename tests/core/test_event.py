"""Bodies → events: what is accepted, what is repaired, which of LangSmith's webhooks it is, what is a duplicate."""

from __future__ import annotations

import dataclasses
import json
import math
import uuid

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.core.json_text
from engine.core.errors import BadBody
from engine.core.event import (
    SENDERS,
    Kind,
    Signed,
    kind_of,
    new_event_id,
    parse_event,
    parse_json,
    parse_payload,
    restored_event,
)

RULE = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
WINDOW = {"start_time": "2024-04-05T01:28:54.734491+00:00", "end_time": "2024-04-05T01:28:56.492563+00:00"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def rule(**changes):
    return {"rule_id": RULE, **WINDOW, "runs": [{"id": "a"}, {"id": "b"}], "feedback_stats": None, **changes}


def event(payload, at=1.7e9):
    return parse_event(orjson.dumps(payload), at)


def key(payload):
    return event(payload).dedup_key


def test_keys_of_one_time_stand_together():
    """The store's index of keys is written at its end, not all over."""
    keys = [key(rule(end_time=f"2024-04-05T01:{minute:02}:56")) for minute in range(60)]
    assert keys == sorted(keys)


def test_a_window_that_is_no_text_or_endless_still_makes_a_key():
    keys = {key(rule(end_time=end)) for end in (None, 5, 5.5, True, "z" * 10_000, "z" * 10_001)}
    assert len(keys) == 6
    assert all(len(one) < 80 for one in keys)


# What a body may be


def test_strict_json_is_kept_as_sent():
    body = orjson.dumps(rule())
    parsed = parse_event(body, 12.5)
    assert (parsed.body, parsed.payload, parsed.repaired) == (body, rule(), False)
    assert (parsed.kind, parsed.rule_id, parsed.received_at) == (Kind.RULE, RULE, 12.5)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5000])
def test_a_number_that_is_not_finite_becomes_null_and_the_event_is_marked(text):
    assert parse_payload(f'{{"a":{text},"b":1.5}}'.encode()) == ({"a": None, "b": 1.5}, True)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r"\ud800", "\ufffd"),
        (r"\udc00x", "\ufffdx"),
        (r"\ud800\ud800\udc00", "\ufffd\U00010000"),
        (r"\ud83d\ude00 \ud83d", "\U0001f600 \ufffd"),
        (r"\\ud800 \ud800", "\\ud800 \ufffd"),
        (r"\\\ud800", "\\\ufffd"),
    ],
)
def test_a_lone_surrogate_becomes_the_replacement_character(sent, read):
    assert parse_payload(f'{{"{sent}":"{sent}"}}'.encode()) == ({read: read}, True)


def test_every_lone_surrogate_of_a_long_text_is_replaced_and_pairs_are_kept():
    text = "ab\\ud83d\\ude00\\ud800c\\udfff" * 30_000
    payload, repaired = parse_payload(f'{{"{text}": ["{text}", 1, null], "\\\\ud800": "x"}}'.encode())
    read = "ab\U0001f600\ufffdc\ufffd" * 30_000
    assert (payload, repaired) == ({read: [read, 1, None], "\\ud800": "x"}, True)


def test_texts_without_surrogates_are_not_made_anew_where_another_has_one():
    payload = json.loads('{"a": ["clean", 1, "\\ud800"]}')
    repaired = engine.core.json_text._repaired(payload)
    assert repaired == {"a": ["clean", 1, "\ufffd"]}
    assert repaired["a"][0] is payload["a"][0]


#: Of more bytes than are repaired whatever is wrong with them.
LONG = "x" * (16 * 1024 * 1024)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (rb"\ud800", "lone surrogates"),
        (rb"\udfffx", "lone surrogates"),
        (rb"\uD83D\uDE00\uDE00", "lone surrogates"),
        (rb"\ud83d\ud83d\ude00", "lone surrogates"),
        (b"\xff", "invalid UTF-8"),
        (b"a\nb", "control characters in strings"),
        (rb'","b":NaN,"c":"' + rb"\n" * 3_000_001, "more than 3,000,000 escapes"),
    ],
)
def test_a_large_body_that_would_take_long_to_repair_is_kept_unparsed_and_a_smaller_one_is_repaired(text, fault):
    found = parse_event(b'{"a":"' + LONG.encode() + text + b'"}', 1.7e9)
    why = f"the body is not strict JSON: it has {fault}, which are only repaired up to 16 MiB"
    assert (found.kind, found.unparsed, found.payload) == (Kind.UNPARSED, why, {})
    smaller = parse_event(b'{"a":"' + text + b'"}', 1.7e9)
    assert (smaller.kind, smaller.repaired) == (Kind.UNKNOWN, True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_numbers_and_encodings_are_put_right_however_large_a_body_is(encoding):
    body = f'{{"a":"{LONG}","b":[NaN,1e400,"\\ud83d\\ude00 €"]}}'.encode(encoding)
    assert parse_payload(body) == ({"a": LONG, "b": [None, None, "\U0001f600 €"]}, True)


def test_a_large_body_that_is_no_json_is_refused_with_the_place():
    with pytest.raises(BadBody, match=r"column 16777225$"):
        parse_payload(b'{"a":"' + LONG.encode() + b'",]}')


def test_nuls_are_kept():
    assert parse_payload(b'{"a\\u0000":"\\u0000b"}') == ({"a\0": "\0b"}, False)
    assert parse_payload(b'{"a":"x\x00\ny"}') == ({"a": "x\0\ny"}, True)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings_are_read(encoding):
    assert parse_payload('{"ключ":"värde 😀"}'.encode(encoding)) == ({"ключ": "värde 😀"}, True)


def test_bytes_that_are_no_utf8_are_replaced_rather_than_refused():
    assert parse_payload(b'{"a":"caf\xe9"}') == ({"a": "caf\ufffd"}, True)


def test_the_last_of_duplicate_keys_counts_however_it_is_parsed():
    assert parse_payload(b'{"a":1,"a":2}')[0] == parse_payload(b'{"a":NaN,"a":2}')[0] == {"a": 2}


def test_integers_are_exact_within_64_bits_and_floats_beyond_however_they_are_parsed():
    numbers = f"[{2**64 - 1},{-(2**63)},{2**64},{-(2**63) - 1},123456789012345678901234567890]"
    strict, tolerant = parse_json(numbers.encode()), parse_json(f"\ufeff{numbers}".encode())
    assert strict[0] == tolerant[0]
    assert [type(number) for number in tolerant[0]] == [int, int, float, float, float]


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_whatever_python_writes_as_json_is_read_and_can_be_written_strictly(payload):
    parsed, _ = parse_payload(json.dumps(payload).encode())
    assert orjson.loads(orjson.dumps(parsed)) == parsed


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=5))
def test_the_tolerant_parser_reads_what_the_strict_one_does(payload):
    try:
        body = orjson.dumps(payload)
    except orjson.JSONEncodeError:  # a surrogate or a big integer further in
        return
    assert parse_payload(b"\xef\xbb\xbf" + body)[0] == parse_payload(body)[0] == orjson.loads(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused_with_a_reason(body):
    try:
        outcome = parse_payload(body)[0]
    except BadBody as error:
        outcome = str(error)
    assert isinstance(outcome, dict) or outcome.startswith("the body")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b" \r\n", "the body is empty"),
        (b"\xef\xbb\xbf", "the body is not JSON: it ends too early"),
        (b"[1]", "the body is a JSON array, not an object"),
        (b'"x"', "the body is a JSON string, not an object"),
        (b"12", "the body is a JSON number, not an object"),
        (b"true", "the body is a JSON boolean, not an object"),
        (b"null", "the body is a JSON null, not an object"),
        (b"NaN", "the body is a JSON null, not an object"),
        (b'{"a":1', "ends too early (Expecting ',' delimiter, line 1, column 7)"),
        (b'{"a":\n "b', "ends too early (Unterminated string starting at, line 2, column 2)"),
        (b'{"a":1}}', "Extra data at line 1, column 8"),
        (b'{"a":1,\n"b":tru}', "Expecting value at line 2, column 5"),
        (b"payload=%7B%7D", "Expecting value at line 1, column 1"),
        (b"<html>", "Expecting value at line 1, column 1"),
        (b'{"a":' * 2000, "nested deeper than 200 levels"),
        (b"[" * 100_000, "nested deeper than 200 levels"),
        (b"[NaN," + b"[" * 900 + b"]" * 900 + b"]", "nested deeper than 200 levels"),
    ],
)
def test_a_body_that_is_no_object_is_refused_with_the_place(body, words):
    with pytest.raises(BadBody) as caught:
        parse_payload(body)
    assert words in str(caught.value)


def test_a_body_of_200_levels_is_parsed():
    payload, _ = parse_payload(b'{"a":' * 199 + b"[]" + b"}" * 199)
    assert list(payload) == ["a"]


# Which webhook it is


@pytest.mark.parametrize(
    ("payload", "kind", "rule_id"),
    [
        (rule(), Kind.RULE, RULE),
        ({"rule_id": RULE, "threads": [{}]}, Kind.RULE, RULE),
        ({"rule_id": RULE}, Kind.RULE, RULE),
        ({"rule_id": 17, "runs": []}, Kind.RULE, "17"),
        ({"rule_id": "", "runs": []}, Kind.RULE, ""),
        ({"rule_id": None, "runs": []}, Kind.UNKNOWN, None),
        ({"alert_rule_id": "al", "text": "my own", "rule_id": "mine"}, Kind.ALERT, "al"),
        ({"alert_rule_id": 5}, Kind.ALERT, "5"),
        ({"prompt_id": "p", "commit_hash": "c", "event": "commit"}, Kind.PROMPT, None),
        ({"id": "i", "type": "issue.created", "data": {"object": {}}}, Kind.ISSUE, None),
        ({"type": "issue"}, Kind.UNKNOWN, None),
        ({"id": "i", "type": "context_hub.commit.created.v1", "data": {"commit": {}}}, Kind.CONTEXT_HUB, None),
        ({"type": "context_hub.commit.of.a.new.sort.v2", "data": 5}, Kind.CONTEXT_HUB, None),
        ({"type": "context_hub"}, Kind.UNKNOWN, None),
        ({"type": 3}, Kind.UNKNOWN, None),
        ({"hello": "world"}, Kind.UNKNOWN, None),
        ({}, Kind.UNKNOWN, None),
    ],
)
def test_kinds_are_distinguished_by_their_keys(payload, kind, rule_id):
    assert kind_of(payload) is kind
    assert (event(payload).kind, event(payload).rule_id) == (kind, rule_id)


# What is a duplicate


def test_a_retry_with_other_bytes_is_the_same_event():
    signed_anew = rule(runs=[{"id": "b", "inputs_s3_urls": {"ROOT": {"presigned_url": "new"}}}, {"id": "a"}])
    assert key(rule()) == key(signed_anew)


@pytest.mark.parametrize(
    "other",
    [
        rule(rule_id="another"),
        rule(start_time="2024-04-05T01:28:54.734492+00:00"),
        rule(end_time=None),
        rule(runs=[{"id": "a"}]),
        rule(runs=[{"id": "a"}, {"id": "b"}, {"id": "b"}]),
        rule(runs=[{"id": "ab"}]),
        rule(threads=[{"id": "t"}]),
    ],
)
def test_another_rule_window_or_set_of_runs_is_another_event(other):
    assert key(rule()) != key(other)


def test_two_thread_batches_of_one_window_are_two_events():
    def batch(**thread):
        return key({"rule_id": RULE, **WINDOW, "threads": [thread]})

    assert batch(thread_id="one") == batch(thread_id="one", note="retried")
    assert batch(thread_id="one") != batch(thread_id="two")
    assert batch(thread_id="same", id="one") != batch(thread_id="same", id="two")
    assert batch(name="one") != batch(name="two"), "without ids the body tells them apart"


@pytest.mark.parametrize(
    "runs", [[], None, [{"id": "a"}, {}], [{"id": "a"}, 3], [{"id": None}], [{"id": ""}], {"id": "a"}]
)
def test_without_an_id_for_every_run_the_body_is_the_key(runs):
    payload = rule(runs=runs)
    assert key(payload) == key(payload)
    assert key(payload) != key({**payload, "note": "another delivery"})


@pytest.mark.parametrize(
    "payload",
    [
        {"alert_rule_id": "a", "timestamp": "1"},
        {"prompt_id": "p", "commit_hash": "c"},
        {"id": "evt_1", "type": "issue.created"},
        {"id": "evt_1", "type": "context_hub.commit.created.v1"},
        {"id": "unknown"},
        {"runs": [{"id": "a"}]},
    ],
)
def test_other_webhooks_are_distinguished_by_their_bytes(payload):
    assert key(payload) == key(payload)
    assert key(payload) != key({**payload, "note": "another delivery"})


@pytest.mark.parametrize(
    ("payload", "subject", "retry_span"),
    [
        (rule(), f"rule:{RULE}", None),
        (rule(rule_id=RULE.upper(), runs=[]), f"rule:{RULE}", 60.0),
        ({"rule_id": 5}, "rule:5", 60.0),
        ({"rule_id": "r" * 101}, "rule:5ccf0c639f46534bf312d468851f7226", 60.0),
        ({"alert_rule_id": "slow"}, "alert:slow", 60.0),
        ({"prompt_id": "triage"}, "prompt:triage", 60.0),
        ({"prompt_id": ["triage"]}, 'prompt:["triage"]', 60.0),
        ({"prompt_id": ""}, "", 60.0),
        ({"type": "issue.created", "id": "1"}, "", 300.0),
        ({"type": "context_hub.commit.created.v1", "id": "1"}, "", 300.0),
        ({"note": "none of LangSmith's", "": "x"}, "", 60.0),
    ],
)
def test_what_has_no_identity_is_recognised_by_its_body_within_its_senders_retry_span(payload, subject, retry_span):
    found = event(payload)
    assert (found.subject, found.retry_span) == (subject, retry_span)
    assert found.dedup_key.startswith("rule:" if retry_span is None else "body:")


def test_every_kind_says_how_it_is_sent():
    assert SENDERS.keys() == set(Kind)


def test_a_signed_id_is_an_identity_whatever_the_kind():
    for payload in ({"prompt_id": "triage"}, {"alert_rule_id": "slow"}, {"note": "x"}, rule(runs=[])):
        found = parse_event(orjson.dumps(payload), 1.7e9, Signed("somebody", "1"))
        assert found.dedup_key.startswith("id:")
        assert found.retry_span is None
    assert found.subject == f"rule:{RULE}"


def test_one_id_of_two_signing_secrets_is_two_events_and_of_two_kinds_too():
    prompt, alert = orjson.dumps({"prompt_id": "triage"}), orjson.dumps({"alert_rule_id": "slow"})
    found = [
        parse_event(body, 1.7e9, Signed(by, "1")).dedup_key for body in (prompt, alert) for by in ("one", "another")
    ]
    assert len(set(found)) == 4
    again = parse_event(orjson.dumps({"prompt_id": "another"}), 1.7e9, Signed("one", "1"))
    assert again.dedup_key == found[0]


def test_what_was_not_parsed_for_its_size_is_once_the_limit_allows_it_and_the_other_way_round():
    body = orjson.dumps({**rule(), "rule_id": RULE.upper(), "more": list(range(50))})
    kept = parse_event(body, 1.7e9, max_values=20)
    assert (kept.kind, kept.rule_id, kept.payload) == (Kind.UNPARSED, None, {})

    def restored(event, max_values):
        words = (event.id, event.kind.value, event.rule_id, event.dedup_key, event.received_at, event.body)
        return restored_event(*words, repaired=event.repaired, trace=event.trace, max_values=max_values)

    parsed = restored(kept, 200)
    assert (parsed.kind, parsed.rule_id, parsed.unparsed) == (Kind.RULE, RULE, "")
    assert parsed.payload["more"] == list(range(50))
    assert (parsed.id, parsed.dedup_key) == (kept.id, kept.dedup_key)
    again = restored(parsed, 20)
    assert (again.kind, again.payload) == (Kind.UNPARSED, {})
    assert again.unparsed == kept.unparsed


def test_odd_times_do_not_break_the_key():
    assert key(rule(start_time={"odd": 1})) != key(rule(start_time={"odd": 2}))
    assert key(rule(start_time=1.5)) == key(rule(start_time=1.5))


# Ids


@given(st.floats(min_value=0, max_value=4e9))
def test_an_event_id_is_a_uuid7_of_its_time(at):
    parsed = uuid.UUID(new_event_id(at))
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert math.isclose((parsed.int >> 80) / 1000, at, abs_tol=0.002)


@given(st.floats(min_value=1e9, max_value=4e9), st.floats(min_value=1e-6, max_value=1e6))
def test_event_ids_sort_by_time(at, later):
    assert new_event_id(at) < new_event_id(at + later)


def test_event_ids_of_one_moment_differ():
    assert len({new_event_id(1.7e9) for _ in range(1000)}) == 1000


# Rule ids


@pytest.mark.parametrize(
    ("payload", "rule_id"),
    [
        ({"rule_id": RULE.upper(), "runs": []}, RULE),
        ({"rule_id": RULE, "runs": []}, RULE),
        ({"alert_rule_id": RULE.upper()}, RULE),
        ({"rule_id": "My-Rule", "runs": []}, "My-Rule"),
        ({"rule_id": RULE.upper() + "X", "runs": []}, RULE.upper() + "X"),
    ],
)
def test_a_rule_id_that_is_a_uuid_is_in_lower_case_and_the_payload_is_as_it_came(payload, rule_id):
    parsed = event(payload)
    assert parsed.rule_id == rule_id
    assert parsed.payload == payload


def test_the_case_of_a_rules_uuid_makes_no_second_event():
    assert key(rule(rule_id=RULE.upper())) == key(rule())
    assert key(rule(rule_id="Rule")) != key(rule(rule_id="rule"))


def test_an_events_word_is_made_once_and_does_not_count_in_comparisons():
    one = event(rule(), at=1_700_000_000.5)
    before = dataclasses.replace(one)
    assert one.word == {"id": one.id, "kind": "rule", "received_at": "2023-11-14T22:13:20.500000+00:00"}
    assert one.word is one.word
    assert one == before
    assert dataclasses.replace(one, id="other").word["id"] == "other"
