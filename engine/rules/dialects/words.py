"""Names of operators in other rule languages, in any spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

#: Our operator → its names in other tools, in lower case.
_PHRASES: Final[Mapping[str, str]] = {
    "eq": "==,=,===,eq,equal,equals,equal to,equals to,is,is equal,is equal to,exact,exactly,exactly matches,eql,same,"
    "same as,exact match,matches exactly,value equals,term,const,text exactly matches,number equals,iff",
    "ne": "!=,!==,<>,~=,ne,neq,unequal,differs,differs from,different from,anything but,!,^=,/=",
    "lt": "<,lt,below,under,less,less than,smaller,smaller than,lower,lower than,is less than,is below,"
    "fewer than,number less than,strictly below",
    "lte": "<=,=<,le,lte,lteq,at most,max,maximum,less than or equal,less than or equal to,less or equal,"
    "less than equal,less than equals,less than inclusive,up to,no more than,maximal,less equal,is at most",
    "gt": ">,gt,above,over,greater,larger,greater than,more,more than,bigger,bigger than,exceeds,is greater than,"
    "is above,higher,higher than,larger than,number greater than,strictly above",
    "gte": ">=,=>,ge,gte,gteq,at least,min,minimum,greater than or equal,greater than or equal to,"
    "greater or equal,greater than equal,greater than equals,greater than inclusive,no less than,more than or equal,"
    "more than or equal to,minimal,greater equal,is at least",
    "between": "between,range,within,in range,within range,is between",
    "in": "in,one of,any of,is in,is one of,in list,is any of,terms,in array,is in list,equals any,in set,"
    "in group,enum,element of,member of,text is in,equal any,eq any",
    "contains": "contains,contain,includes,include,has,like substring,substring,contains substring,has substring,"
    "contains text,text contains,string contains,in string,match phrase,contains string,has item,includes item,"
    "contains element,array contains",
    "starts_with": "prefix,has prefix,startswith,starts with,start with,starts,begins with,beginswith,begin with,"
    "has prefix of,text starts with,=^,match phrase prefix,string starts with",
    "ends_with": "suffix,has suffix,endswith,ends with,end with,ends,text ends with,string ends with,=$",
    "matches": "matches,regex,regexp,re,pattern,match,match re,matches regex,matches regexp,match regex,regex match,"
    "regexp match,re match,=~,~,search,regex search,rlike,matches pattern,regexp like,string matches,"
    "regexp matches,matches regular expression,text matches",
    "like": "like,similar to,glob,wildcard,fnmatch,string like,matches glob,matches wildcard,matches like",
    "exists": "exists,exist,present,is present,is set,defined,is defined,set,has value,has key,is not null,not null,"
    "non null,isnt null,is not none,not none,exist value",
    "null": "null,is null,isnull,none value,is none,nil,is nil,is missing,missing,absent,is absent,undefined,"
    "is undefined,unset,is unset,does not exist,is not set,not present,not set",
    "empty": "empty,is empty,blank,is blank,isempty",
    "true": "is true,istrue,truthy,boolean is true",
    "false": "is false,isfalse,falsy,boolean is false",
    "length": "length,len,size,array length,string length,char length,item count",
    "count": "count,number of,num",
    "type": "type,typeof,is type,is a,instance of,isinstance,has type,data type",
    "before": "before,until,earlier than,is before,date before,prior to",
    "after": "after,since,later than,is after,date after",
    "older_than": "older than,older,min age,age over,timediff gt,age gt,before ago,age greater than,not within last",
    "newer_than": "newer than,newer,younger than,max age,within last,timediff lt,age lt,in last,in the last,last,"
    "age less than",
    "contains_any": "contains any,contains any of,has any,has any of,includes any,contains one of,any in,has some,"
    "array contains any,hasany,intersects,overlaps,contains some,overlap",
    "contains_all": "contains all,contains all of,has all,has all of,includes all,all in,array contains all,"
    "superset of,hasall,superset,is superset of,contains every",
    "all_of": "all of elements",
}  # fmt: skip

#: Short names with a negation or flag that the rules below cannot split.
_SHORT: Final[Mapping[str, tuple[str, bool, bool]]] = {
    "nin": ("in", True, False),
    "notin": ("in", True, False),
    "nlike": ("like", True, False),
    "notlike": ("like", True, False),
    "nregex": ("matches", True, False),
    "nmatches": ("matches", True, False),
    "nmatch": ("matches", True, False),
    "nre": ("matches", True, False),
    "ncontains": ("contains", True, False),
    "nincludes": ("contains", True, False),
    "nhas": ("contains", True, False),
    "nexists": ("exists", True, False),
    "nexist": ("exists", True, False),
    "nempty": ("empty", True, False),
    "nnull": ("null", True, False),
    "notnull": ("null", True, False),
    "isnotnull": ("null", True, False),
    "isnotempty": ("empty", True, False),
    "notempty": ("empty", True, False),
    "nonempty": ("empty", True, False),
    "neq": ("eq", True, False),
    "neql": ("eq", True, False),
    "nequals": ("eq", True, False),
    "nequal": ("eq", True, False),
    "ne": ("eq", True, False),
    "isnt": ("eq", True, False),
    "isnot": ("eq", True, False),
    "is not": ("eq", True, False),
    "noteq": ("eq", True, False),
    "notequal": ("eq", True, False),
    "notequals": ("eq", True, False),
    "nbetween": ("between", True, False),
    "nprefix": ("starts_with", True, False),
    "nsuffix": ("ends_with", True, False),
    "nstartswith": ("starts_with", True, False),
    "nendswith": ("ends_with", True, False),
    "ngt": ("gt", True, False),
    "nlt": ("lt", True, False),
    "ngte": ("gte", True, False),
    "nlte": ("lte", True, False),
    "excludes": ("contains", True, False),
    "exclude": ("contains", True, False),
    "lacks": ("contains", True, False),
    "without": ("contains", True, False),
    "none of": ("in", True, False),
    "!~": ("matches", True, False),
    "!~*": ("matches", True, True),
    "~*": ("matches", False, True),
    "=~*": ("matches", False, True),
    "ieq": ("eq", False, True),
    "ieql": ("eq", False, True),
    "iequals": ("eq", False, True),
    "ine": ("eq", True, True),
    "ineq": ("eq", True, True),
    "iexact": ("eq", False, True),
    "icontains": ("contains", False, True),
    "iincludes": ("contains", False, True),
    "nicontains": ("contains", True, True),
    "iregex": ("matches", False, True),
    "imatches": ("matches", False, True),
    "imatch": ("matches", False, True),
    "ilike": ("like", False, True),
    "nilike": ("like", True, True),
    "istartswith": ("starts_with", False, True),
    "iprefix": ("starts_with", False, True),
    "iendswith": ("ends_with", False, True),
    "isuffix": ("ends_with", False, True),
    "iin": ("in", False, True),
}
_WORDS: Final = MappingProxyType({phrase: ours for ours, phrases in _PHRASES.items() for phrase in phrases.split(",")})
_SQUASHED: Final = MappingProxyType(
    {phrase.replace(" ", ""): ours for phrase, ours in _WORDS.items() if len(phrase) > 4}
)
_NEGATION: Final = re.compile(
    r"^(?:(?:does|do|is|are|was|has|have|must|should)(?: ?n[o']?t) |"
    r"(?:doesnt|dont|isnt|arent|not|no|non|never|nor|without|cannot|unless) |!)|(?<=^is )not "
)
_FOLDED: Final = re.compile(
    r" (?:ignore case|ignoring case|ignorecase|case insensitive|insensitive|nocase|no case|ci|i|case insensitively)$|"
    r"^(?:case insensitive|insensitive|ignore case|i) |\*$"
)
#: Zapier and Make prefix the type of the compared values.
_KIND: Final = re.compile(r"^(?:text|number|string|array|boolean|date time|datetime|numeric) (?=\w)")
_STRICT: Final = re.compile(r" (?:cs|case sensitive)$")


@dataclass(frozen=True, slots=True)
class Word:
    """The meaning of a name. ``name`` is our operator, or one of like, null, true, false, contains_any, …_all."""

    name: str
    negated: bool = False
    fold: bool = False


def operator_of(written: object) -> Word | None:
    """The meaning of an operator in any usual spelling; None if it is not known."""
    phrase = phrase_of(written)
    found = _plain(phrase) or _strict(phrase) or _folded(phrase) or _negated(phrase)
    if found is None and phrase.endswith((" any", " any of")):  # one of a list: all our operators accept a list
        found = operator_of(phrase.removesuffix(" of").removesuffix(" any"))
    return found


def phrase_of(written: object) -> str:
    """``greaterThan``, ``greater_than``, ``$greater-than`` → ``greater than``; symbols stay as they are."""
    text = str(written).strip().lstrip("$@").rstrip("?")
    if not re.search(r"[A-Za-z]", text):
        return text.replace(" ", "") or str(written).strip()
    if not text.isupper():
        text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    words = re.sub(r"[\s_\-./:()]+", " ", text).strip().lower().split()
    return " ".join("does not" if word in ("doesn't", "doesnt") else word.replace("'", "") for word in words)


def _plain(phrase: str) -> Word | None:
    phrase = _KIND.sub("", phrase) or phrase
    bare = phrase.removeprefix("is ")
    for short in (phrase, bare, phrase.replace(" ", "")):
        if short in _SHORT:
            return Word(*_SHORT[short])
    name = _WORDS.get(phrase) or _WORDS.get(bare) or _SQUASHED.get(phrase)
    if name == "ne":
        return Word("eq", negated=True)
    return None if name is None else Word(name)


def _strict(phrase: str) -> Word | None:
    bare = _STRICT.sub("", phrase)
    return _plain(bare) if bare != phrase else None


def _folded(phrase: str) -> Word | None:
    bare = _FOLDED.sub("", phrase)
    if bare in ("", phrase):
        return None
    found = _plain(bare) or _negated(bare)
    return None if found is None else replace(found, fold=True)


def _negated(phrase: str) -> Word | None:
    bare = _NEGATION.sub("", _KIND.sub("", phrase))
    if bare in ("", phrase) or (found := _plain(bare) or _folded(bare)) is None:
        return None
    return replace(found, negated=not found.negated)


def suffix(key: str, mark: str) -> tuple[str, Word] | None:
    """``status__not__in``: the field before and the operator after, with its negation or flag."""
    parts = key.split(mark)
    for count in range(1, len(parts)):
        words = [word for word in parts[count:] if word not in ("all", "windash", "cased", "base64")]
        if words and (word := operator_of(" ".join(words))) is not None:
            return mark.join(parts[:count]), word
    return None


# --- misspellings ---------------------------------------------------------------------------------------------------

_PREFIX: Final = re.compile(r"^(?:not|non|un|no|n|i|!)(?=[a-z])")


def misspelt(written: str, known: Iterable[str]) -> str:
    """The one known word of which this is a misspelling; empty if there are several, or it may be a negation.

    A misspelling has one letter too many, too few, wrong or swapped; in long words up to two of these.
    A word that begins like a negation (``nexists``) is not a misspelling of the positive word.
    """
    word = written.lower()
    if len(word) < 3:
        return ""
    allowed = 1 if len(word) < 8 else 2
    near = [(distance, name) for name in set(known) if (distance := _distance(word, name.lower(), allowed)) <= allowed]
    best = sorted(near)[:2]
    if not best or (len(best) > 1 and best[0][0] == best[1][0]):
        return ""
    name = best[0][1]
    bare, meant = (each.replace("_", "") for each in (word, name))
    opposite = bare != meant and (_PREFIX.sub("", bare) == meant or _PREFIX.sub("", meant) == bare)
    return "" if opposite else name


def misspelt_operator(written: str) -> Word | None:
    """The meaning of a misspelt operator of any language; None if it is ambiguous."""
    phrase = phrase_of(written)
    near = misspelt(phrase, (word for word in _WORDS if len(word) > 3))
    return operator_of(near) if near else None


def _distance(left: str, right: str, limit: int) -> int:
    """How many letters differ (Damerau's optimal string alignment); a distance above ``limit`` is not exact."""
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(right) + 1))
    for place, letter in enumerate(left, start=1):
        last, before, row = before, row, [place]
        for index, other in enumerate(right, start=1):
            cost = min(before[index] + 1, row[index - 1] + 1, before[index - 1] + (letter != other))
            if index > 1 and place > 1 and letter == right[index - 2] and left[place - 2] == other:
                cost = min(cost, last[index - 2] + 1)
            row.append(cost)
    return row[-1]
