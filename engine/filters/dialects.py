"""Words that other rule languages have for the keys of a condition."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_WORDS = {
    "eq": "== = === equal equals is is_equal_to equal_to",
    "ne": "!= !== <> neq is_not not_equal not_equals isnt",
    "lt": "< below under less less_than smaller_than",
    "lte": "<= =< le at_most max maximum less_than_or_equal less_or_equal",
    "gt": "> above over greater more_than greater_than bigger_than",
    "gte": ">= => ge at_least min minimum greater_than_or_equal greater_or_equal",
    "between": "range within",
    "in": "one_of any_of is_in is_one_of",
    "not_in": "nin notin not-in not_one_of none_of",
    "contains": "includes include has contain like substring",
    "starts_with": "prefix startswith starts begins_with",
    "ends_with": "suffix endswith ends",
    "matches": "regex regexp re pattern match search =~ ~ matches_regex",
    "exists": "present is_present is_set defined exist",
    "empty": "is_empty blank",
    "length": "len size",
    "count": "number_of num",
    "type": "typeof is_type is_a",
    "before": "until earlier_than",
    "after": "since later_than",
    "older_than": "older min_age age_over",
    "newer_than": "newer younger_than max_age within_last",
    "all": "and && all_of every allof",
    "any": "or || anyof some",
    "none": "nor noneof",
    "not": "! negate unless",
    "path": "jsonpath json_path field key selector property attribute",
    "expr": "expression jinja template if condition script",
    "quantifier": "quantify mode match_mode",
    "absent": "default if_absent if_missing on_absent on_missing otherwise",
}

#: Another dialect's word → ours.
FOREIGN: Mapping[str, str] = MappingProxyType(
    {word: ours for ours, words in _WORDS.items() for word in words.split()}
    | {f"${word}": word for word in ("eq", "ne", "lt", "lte", "gt", "gte", "in", "exists", "type", "not")}
    | {"$nin": "not_in", "$regex": "matches", "$and": "all", "$or": "any", "$nor": "none", "$size": "length"}
    | {"not in": "not_in", "starts with": "starts_with", "ends with": "ends_with"}
)

#: Words that have no one word here → what to write.
ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "op": "write the operator as the key: {path: …, eq: …}",
        "operator": "write the operator as the key: {path: …, eq: …}",
        "value": "write the value after its operator: {path: …, eq: …}",
        "values": "write the values after their operator: {path: …, in: […]}",
        "not_contains": "write not: {path: …, contains: …}",
        "excludes": "write not: {path: …, contains: …}",
        "not_matches": "write not: {path: …, matches: …}",
        "not_regex": "write not: {path: …, matches: …}",
        "not_exists": "write exists: false",
        "missing": "write exists: false",
        "not_empty": "write empty: false",
        "is_null": "write eq: null",
        "not_null": "write exists: true",
        "is_not_null": "write exists: true",
        "isnull": "write eq: null",
        "is_none": "write eq: null",
        "is_not_none": "write exists: true",
        "not_none": "write exists: true",
        "is_missing": "write exists: false",
        "is_not_empty": "write empty: false",
        "is_true": "write eq: true",
        "is_false": "write eq: false",
        "icontains": "write matches: (?i)…",
        "ieq": "write matches: (?i)^…$",
        "ignore_case": "write matches: (?i)…",
    }
)
