"""Names of operators in other rule languages, in any spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from engine.rules.dialects.meaning import Unclear

#: Our operator → its names in other tools, in lower case. ``!``: they negate it; ``~``: they ignore case.
_OPERATORS: Final[Mapping[str, str]] = {
    "eq": "==,=,===,:=,eq,equal,equals,equal to,equals to,is,is equal,is equal to,exact,exactly,exactly matches,eql,"
    "same,same as,exact match,matches exactly,value equals,term,const,text exactly matches,number equals,iff",
    "!eq": "!=,!==,<>,~=,ne,unequal,differs,differs from,different from,anything but,!,^=,/=,isnt,not,is not",
    "!in": "none of",
    "!contains": "excludes,exclude,lacks,without",
    "!matches": "!~",
    "~matches": "~*,=~*",
    "!~matches": "!~*",
    "!~eq": "ineq",
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
    "regexp match,re match,=~,~,==~,search,regex search,rlike,matches pattern,regexp like,string matches,"
    "regexp matches,matches regular expression,text matches",
    "like": "like,similar to,glob,wildcard,fnmatch,string like,matches glob,matches wildcard,matches like",
    "exists": "exists,exist,present,is present,is set,defined,is defined,set,has value,has key,exist value,"
    "is not none,not none",
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

#: Our function of one value, or what else a function does → its names in other tools, in lower case.
_FUNCTIONS: Final[Mapping[str, str]] = {
    "length": "len,length,size,count,strlen,char length,character length,array length,cardinality,array size,utf8 "
    "length,json array length,string length,lengthof",
    "lower": "lower ascii,lower,lowercase,lcase,tolower,to lower,to lower case,to lowercase,downcase,casefold,"
    "ascii downcase",
    "upper": "upper ascii,upper,uppercase,ucase,toupper,to upper,to upper case,to uppercase,upcase,ascii upcase",
    "trim": "trim,strip",
    "number": "number,int,float,tonumber,to number,parse int,parse float,to int,to float,double,toint,todouble",
    "string": "str,string,tostring,to string,text",
    "type": "typeof,type,type of",
    "itself": "bool,boolean,list,array,set,frozenset,sorted,can,try,nullif,ensure list,total seconds,seconds,tojson,"
    "to json,keyword,values,dyn,to array,entries,timestamp,datetime,date,to datetime,todatetime,to timestamp,"
    "date parse,parse time,time,from iso8601 timestamp,datetime fromisoformat,fromisoformat",
    "default": "coalesce,ifnull,nvl,default,or else,or value,if null,get or else,else,catch",
    "if": "if,iif,iff,cond,ternary",
    "and": "and,all,all of,q,select,filter,filter by,where",
    "or": "or,any,any of",
    "not": "not",
    "nor": "nor",
    "position": "index of,index,find,strpos,instr,indexof,locate,charindex,position",
    "duration": "duration,interval,parse duration,timespan,totimespan",
    "ago": "ago,older than",
    "json": "from json,parse json,json parse,fromjson,jsondecode,json loads,json decode",
    "field": "col,column,field,attr,itemgetter,getattr,get,value",
    "regex": "test,re match,match,is match",
    "subset": "issubset,subset of,is subset",
    "starts_with": "left,str left",
    "part": "substring,substr,slice,mid",
    "ends_with": "right",
    "kind": "isinstance,is instance",
}


@dataclass(frozen=True, slots=True)
class Word:
    """The meaning of a name. ``name`` is our operator, or one of like, null, true, false, contains_any, …_all."""

    name: str
    negated: bool = False
    fold: bool = False

    @property
    def ours(self) -> str:
        """The name with the negation; empty if we have no such operator, or only for case-sensitive texts."""
        return "" if self.fold else OPPOSITE.get(self.name, "") if self.negated else self.name


#: The opposite of our operators that have one.
OPPOSITE: Final = {"eq": "ne", "in": "not_in"}
_WORDS: Final = {
    phrase: Word(name.lstrip("!~"), "!" in name, "~" in name)
    for name, phrases in _OPERATORS.items()
    for phrase in phrases.split(",")
}
#: Names of functions → our function.
FUNCTIONS: Final = {phrase: ours for ours, phrases in _FUNCTIONS.items() for phrase in phrases.split(",")}
_SQUASHED: Final = {phrase.replace(" ", ""): word for phrase, word in _WORDS.items()}
#: Names without spaces: ``nin``, ``notlike``, ``icontains``, ``isnotempty``.
_SHORT: Final = re.compile(rf"(?:is)?(not|non|n)?(i)?({'|'.join(filter(str.isalnum, _SQUASHED))})")
#: Zapier and Make prefix the type of the compared values; other words say that case is not ignored.
_WITHOUT_MEANING: Final = re.compile(
    r"^(?:text|number|string|array|boolean|date time|datetime|numeric) (?=\w)| (?:cs|case sensitive)$"
)
_NEGATION: Final = re.compile(
    r"^(?:(?:does|do|is|are|was|has|have|must|should)(?: ?n[o']?t) |"
    r"(?:doesnt|dont|isnt|arent|not|no|non|never|nor|without|cannot|unless) |!)|(?<=^is )not "
)
_FOLDED: Final = re.compile(
    r" (?:ignore case|ignoring case|ignorecase|case insensitive|insensitive|nocase|no case|ci|i|case insensitively)$|"
    r"^(?:case insensitive|insensitive|ignore case|i) |\*$"
)


def phrase_of(written: object) -> str:
    """``greaterThan``, ``greater_than``, ``$greater-than`` → ``greater than``; symbols stay as they are."""
    text = str(written).strip().lstrip("$@").rstrip("?")
    if not re.search(r"[A-Za-z]", text):
        return text.replace(" ", "") or str(written).strip()
    if not text.isupper():
        text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    words = re.sub(r"[\s_\-./:()]+", " ", text).strip().lower().split()
    return " ".join("does not" if word in ("doesn't", "doesnt") else word.replace("'", "") for word in words)


def operator_of(written: object) -> Word | None:
    """The meaning of an operator in any usual spelling; None if it is not known."""
    phrase = phrase_of(written)
    found = _word(phrase)
    if found is None and phrase.endswith((" any", " any of")):  # one of a list: all our operators accept a list
        found = operator_of(phrase.removesuffix(" of").removesuffix(" any"))
    return found


def _word(phrase: str) -> Word | None:
    if (found := _WORDS.get(phrase) or _WORDS.get(phrase.removeprefix("is "))) is not None:
        return found
    if (short := _SHORT.fullmatch(phrase.replace(" ", ""))) is not None:
        found = _SQUASHED[short[3]]
        return Word(found.name, found.negated is not bool(short[1]), found.fold or bool(short[2]))
    for pattern, negated, fold in ((_WITHOUT_MEANING, False, False), (_FOLDED, False, True), (_NEGATION, True, False)):
        rest = pattern.sub("", phrase)
        if rest not in ("", phrase) and (found := _word(rest)) is not None:
            return Word(found.name, found.negated is not negated, found.fold or fold)
    return None


def known_operator(written: object) -> Word:
    """The meaning of an operator.

    Raises:
        Unclear: it is not known.
    """
    if (word := operator_of(written)) is None:
        raise Unclear(f"an unknown operator {written!r}")
    return word


def suffix(key: str, mark: str) -> tuple[str, Word] | None:
    """``status__not__in``: the field before and the operator after, with its negation or flag."""
    parts = key.split(mark)
    for count in range(1, len(parts)):
        words = [word for word in parts[count:] if word not in ("all", "windash", "cased", "base64")]
        if words and (word := operator_of(" ".join(words))) is not None:
            return mark.join(parts[:count]), word
    return None


_PREFIX: Final = re.compile(r"^(?:not|non|un|no|n|i|!)(?=[a-z])")


def misspelt(written: str, known: Iterable[str]) -> str:
    """The one known word of which this is a misspelling; empty if there are several, or it may be a negation.

    A misspelling has one letter too many, too few, wrong or swapped; in long words up to two of these.
    A word that begins like a negation (``nexists``) is not a misspelling of the positive word.
    """
    word, names, near = written.lower(), set(known), list[str]()
    for edits in range(2 + (len(word) >= 8) if len(word) >= 3 else 0):
        near = near or [name for name in names if _is_near(word, name.lower(), edits)]
    bare, meant = (each.replace("_", "") for each in (word, near[0] if len(near) == 1 else ""))
    opposite = bare != meant and (_PREFIX.sub("", bare) == meant or _PREFIX.sub("", meant) == bare)
    return "" if opposite or not meant else near[0]


def _is_near(left: str, right: str, edits: int) -> bool:
    """Whether a word becomes another by so many edits: a letter inserted, removed or changed, or two swapped."""
    if left[:1] == right[:1]:
        return not left or _is_near(left[1:], right[1:], edits)
    rests = [(left[1:], right), (left, right[1:]), (left[1:], right[1:])]
    if left[:2] == right[1::-1]:
        rests.append((left[2:], right[2:]))
    return edits > 0 and any(_is_near(*rest, edits - 1) for rest in rests)


def misspelt_operator(written: str) -> Word | None:
    """The meaning of a misspelt operator of any language; None if there is none."""
    return _WORDS.get(misspelt(phrase_of(written), (word for word in _WORDS if len(word) > 3)))
