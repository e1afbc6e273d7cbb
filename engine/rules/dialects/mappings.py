"""A condition written as a mapping in another tool's notation → its meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from engine.core.vocabulary import run_field
from engine.rules.dialects.build import compare, fold, glob
from engine.rules.dialects.fields import keys_of
from engine.rules.dialects.labels import anchored
from engine.rules.dialects.meaning import (
    BOOLEAN,
    Apply,
    Constant,
    Field,
    Native,
    Node,
    Not,
    Path,
    Unclear,
    every,
    opposite,
    some,
)
from engine.rules.dialects.operands import Known, adapted, bare, ends, logic_value, options, typed, underscored
from engine.rules.dialects.parser import parse_text
from engine.rules.dialects.pieces import label_matcher, truth
from engine.rules.dialects.shapes import reshaped
from engine.rules.dialects.words import Word, misspelt_operator, operator_of, phrase_of, suffix

_MAX_DEPTH: Final = 20


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split(","))


_ALL: Final = _set("all,and,&&,must,all of,allof,every,conditions,rules,filters,match all,filter,musts,each,AND")
_ANY: Final = _set("any,or,||,should,any of,anyof,some,one of,match any")
_NONE: Final = _set("none,nor,must not,none of,noneof,match none")
_NOT: Final = _set("not,!,negate,unless,except")
_WRAPPERS: Final = _set(
    "check,if,when,where,condition,query,bool,expression,expr,jq,jmespath,cel,script,rule,constant score,criteria,"
    "predicate,jinja,template,match expression,simple,test,assert,sql,filter,value template,lucene,kql,promql,rego,"
    "query string,logql,js,python,javascript,search,selector"
)
_FIELDS: Final = _set(
    "path,expr,field,key,"
    "attribute,property,selector,entity id,value1,left,lhs,left value,variable,var,fact,source,jsonpath,"
    "json path,metric,column,subject,label,data path,lookup,field name,property name,dimension,left operand,tag,"
    "parameter,param,json key,field path,item,operand1,target field,input field"
)
_OPERATORS: Final = _set(
    "op,operator,operation,comparator,comparison,cmp,condition,match,relation,predicate,test,compare,function,rel,matcher,"
    "qualifier,comparison operator,compare type,match type,operator type,filter type,method,type,mode,match mode"
)
_VALUES: Final = _set(
    "value,values,pattern,value2,right,rhs,right value,threshold,expected,operand,compare value,compare to,criteria,"
    "object,argument,val,right operand,target value,operand2,target,filter value,constant,expected value"
)
_IGNORED: Final = _set("id,description,comment,enabled,note,boost,then")
_TYPES: Final = _set(
    "string,str,text,number,numeric,int,integer,float,bool,boolean,list,array,date,datetime,keyword,double"
)


_SIZED: Final = re.compile(r"(?:length|len|size|count) (\w.*)|(min|max) (?:length|len|items|size)")
_PATTERN: Final = re.compile(r"^\^|\$$|\.\*")
#: LangSmith's filters on other runs of the trace; a rule's webhook does not have those.
_OF_OTHER_RUNS: Final = frozenset({"trace filter", "tree filter"})
#: Words of groups after a field.
_OF_LISTS: Final = {
    "all": Word("contains_all"), "any": Word("contains_any"), "none": Word("contains_any", negated=True),
}  # fmt: skip


def parse_any(raw: Any, known: Known, depth: int = 0) -> Node:
    """The meaning of a condition in any notation; its fields are as written.

    Raises:
        Unclear: the notation is not known.
    """
    if depth > _MAX_DEPTH:
        raise Unclear("nested too deeply")
    raw = reshaped(raw)
    if isinstance(raw, str):
        return parse_text(bare(raw))
    if isinstance(raw, list) and len(raw) == 3 and isinstance(raw[0], str) and _is_pair(raw[1:]):
        return _Mapping({raw[0]: raw[1:]}, known, depth).node()
    if isinstance(raw, list) and raw:
        return every(*(parse_any(each, known, depth + 1) for each in raw))
    if not isinstance(raw, dict) or not raw:
        raise Unclear("neither text nor mapping")
    if depth and known.condition(raw):
        return Native(raw)
    return _Mapping(raw, known, depth).node()


class _Mapping:
    def __init__(self, raw: Mapping[Any, Any], known: Known, depth: int) -> None:
        self._raw, self._known, self._depth = raw, known, depth
        self._leaf = False  # whether a separate key names the field
        self._phrases = {phrase_of("null" if key is None else key): key for key in raw}

    def node(self) -> Node:
        if (field := self._field_key()) is not None:
            return self._of_field(field)
        if (joined := self._builder()) is not None:
            return joined
        parts = [part for key, value in self._raw.items() if (part := self._part(key, value)) is not None]
        if not parts:
            raise Unclear("nothing to ask")
        return every(*parts)

    def _builder(self) -> Node | None:
        """``{combinator: and, rules: […]}`` of query builders."""
        words = {str(value).lower() for value in self._raw.values() if isinstance(value, str)}
        lists = [value for value in self._raw.values() if isinstance(value, list)]
        found = [word for word in ("and", "or", "all", "any", "&&", "||") if word in words]
        if len(found) != 1 or len(lists) != 1 or len(self._raw) != 2:
            return None
        return (every if found[0] in ("and", "all", "&&") else some)(*map(self._inner, lists[0]))

    def _inner(self, raw: Any) -> Node:
        return truth(parse_any(raw, self._known, self._depth + 1))

    # --- keys with a fixed meaning ---

    def _part(self, key: Any, value: Any) -> Node | None:
        phrase = phrase_of(key)
        if phrase in _OF_OTHER_RUNS:
            raise Unclear("other runs")
        if phrase in _IGNORED:
            return self._ignored(phrase, value)
        if (logic := self._json_logic(key, value)) is not None:
            return logic
        if (group := self._group(phrase, value)) is not None:
            return group
        if phrase in ("matchers", "matches", "match expressions", "matchers list") and isinstance(value, list):
            return every(*(self._matcher(each) for each in value))
        if phrase in _WRAPPERS and isinstance(value, (str, list)):
            return self._inner(value)
        if isinstance(value, dict) and (phrase in _WRAPPERS or phrase in ("match labels", "labels", "tags match")):
            return self._inner(value)
        if isinstance(value, dict) and (found := self._operator_first(key, value)) is not None:
            return found
        return self._as_field(str(key), value)

    def _ignored(self, phrase: str, value: Any) -> Node | None:
        if phrase == "then" and value is not True:
            raise Unclear("a consequence in a condition")
        if phrase in ("id", "enabled") and len(self._raw) == 1:
            return self._as_field(phrase, value)
        return None

    def _group(self, phrase: str, value: Any) -> Node | None:
        parts = value if isinstance(value, list) else [value]
        if not parts or not all(isinstance(part, (dict, str, list)) for part in parts):
            return None
        if phrase in _ALL | _ANY and not (isinstance(value, str) and phrase in _WRAPPERS):
            joined = every if phrase in _ALL else some
            return joined(*map(self._inner, parts))
        if phrase in _NONE:
            return Not(some(*map(self._inner, parts)))
        return Not(every(*map(self._inner, parts))) if phrase in _NOT else None

    def _matcher(self, each: Any) -> Node:
        """``status="error"`` of Alertmanager: its patterns must match the whole text."""
        if not isinstance(each, str):
            return self._inner(each)
        found = re.fullmatch(r"\s*([\w.]+)\s*(=~|!~|!=|=)\s*(.*?)\s*", each)
        if found is None:
            return parse_text(each)
        return label_matcher(Field(tuple(found[1].split("."))), found[2], Constant(found[3].strip("\"'")))

    def _json_logic(self, key: Any, value: Any) -> Node | None:
        """``{"==": [{"var": "run.status"}, "error"]}``."""
        if _is_pair(value) and (word := operator_of(key)) is not None and word.name not in ("in", "between"):
            return compare(word, self._look(value[0]), Constant(value[1]))
        if (
            not isinstance(value, list)
            or len(value) < 2
            or not any(isinstance(each, dict) and set(each) <= {"var"} and each for each in value)
        ):
            return None
        word = operator_of(key)
        if word is None:
            raise Unclear(f"an unknown operator {key!r}")
        sides = [logic_value(each) for each in value]
        if len(sides) == 3:
            return every(compare(word, sides[0], sides[1]), compare(word, sides[1], sides[2]))
        return compare(word, sides[0], sides[1])

    def _operator_first(self, key: Any, value: Mapping[Any, Any]) -> Node | None:
        """``{term: {status: error}}``, ``{exists: {field: error}}``: the operator, then the field."""
        word = operator_of(key)
        if word is None:
            return None
        if set(value) == {"field"}:
            return compare(word, self._look(str(value["field"])), None)
        parts = []
        for field, operand in value.items():
            if operator_of(field) is not None and phrase_of(field) not in ("name",):
                return None
            parts.append(self._first_operand(key, word, self._look(str(field)), operand))
        return every(*parts)

    def _first_operand(self, key: Any, word: Word, field: Node, operand: Any) -> Node:
        if isinstance(operand, dict) and set(operand) & {"value", "query"}:
            operand = operand.get("value", operand.get("query"))
        if word.name == "matches" and isinstance(operand, str) and phrase_of(key) in ("match re", "regexp"):
            operand = anchored(operand)
        if phrase_of(key) == "match" and not isinstance(operand, dict):
            word = Word("eq")
        if isinstance(operand, dict):
            return self._operands(field, operand)
        return self._compare(word, field, operand)

    # --- a field, then its test ---

    def _field_key(self) -> Any:
        """The key that names the field, if there is one."""
        found = [key for phrase, key in self._phrases.items() if phrase in _FIELDS and isinstance(self._raw[key], str)]
        named = [key for phrase, key in self._phrases.items() if phrase == "name"]
        third = any(phrase in _OPERATORS | _VALUES for phrase in self._phrases)
        if not found and named and third and len(self._raw) > 2:
            found = named
        if not found or len(self._raw) < 2:
            return None
        return next((key for key in ("path", "expr") if key in found), found[0])

    def _look(self, text: str) -> Node:
        """A field in any notation, by name or in template braces."""
        text = bare(text)
        if text[:1] in ("@", "$") and text[1:2].isalpha():  # Logic Apps and Mongo
            text = text[1:] if text[1:].isidentifier() else text
        if text.startswith("$") and self._known.path(text):
            return Path(text)
        keys = keys_of(text)
        plain = text.startswith(("/", "#/")) or not re.search(r"[+*/() ]", re.sub(r"\[\*\]|\.\*", "", text))
        return parse_text(text) if keys is None or not plain else Field(keys)

    def _of_field(self, key: Any) -> Node:
        field, self._leaf = self._look(self._raw[key]), True
        rest = {name: value for name, value in self._raw.items() if name != key}
        if isinstance(field, BOOLEAN):  # a path with a filter: it must find something
            if rest in ({"exists": True}, {"eq": True}):
                return field
            raise Unclear("a filter and an operator")
        rest, folded, negated = options(rest)
        node = self._asked(field, rest)
        node = fold(node) if folded else node
        return opposite(node) if negated else node

    def _asked(self, field: Node, rest: dict[Any, Any]) -> Node:
        named = [key for key in rest if phrase_of(key) in _OPERATORS and _is_operator(key, rest)]
        values = [key for key in rest if phrase_of(key) in _VALUES]
        kinds = [
            key for key in rest if phrase_of(key) in ("type", "value type", "data type") and str(rest[key]) in _TYPES
        ]
        if not (named or values):
            return self._operands(field, rest)
        others = [
            key
            for key in rest
            if key not in (*named, *values, *(kinds if named or values else ())) and phrase_of(key) not in _IGNORED
        ]
        if others or len(named) > 1 or len(values) > 1:
            raise Unclear("more than an operator and a value")
        operand = rest[values[0]] if values else None
        operand = typed(operand, str(rest[kinds[0]])) if kinds else operand
        word = operator_of(rest[named[0]]) if named else Word("eq")
        if word is None:
            raise Unclear(f"an unknown operator {rest[named[0]]!r}")
        if not named and values and phrase_of(values[0]) == "pattern":
            word = Word("matches")
        if kinds and word.name == "eq" and any(map(_PATTERN.search, _texts(operand))):  # Argo: these are patterns
            word = Word("matches", word.negated)
        if not values and word.name not in ("exists", "null", "empty", "true", "false"):
            raise Unclear("an operator without a value")
        return self._compare(word, field, operand)

    def _operands(self, field: Node, operands: Mapping[Any, Any]) -> Node:
        """``{gte: 10, lt: 20}``: operators with their operands, in any spelling."""
        operands, folded, negated = options(dict(operands))
        parts = [self._operand(field, key, value) for key, value in operands.items()]
        if not parts:
            raise Unclear("a field without an operator")
        node = every(*(fold(part) if folded else part for part in parts))
        return opposite(node) if negated else node

    def _operand(self, field: Node, key: Any, value: Any) -> Node:
        key = "null" if key is None else key
        phrase = phrase_of(key)
        if phrase in ("not", "!") and not isinstance(value, bool):
            return opposite(self._value(field, value))
        if phrase in ("is", "has", "value", "matches", "should be", "to be") and isinstance(value, dict):
            return self._operands(field, value)
        if phrase == "quantifier":
            raise Unclear("a quantifier")
        if phrase == "elem match" and isinstance(field, Field) and isinstance(value, dict):
            return self._operands(Field((*field.keys, None)), value)
        if phrase == "numeric" and isinstance(value, list) and len(value) in (2, 4):  # EventBridge
            pairs = zip(value[::2], value[1::2], strict=True)
            return every(*(self._operand(field, sign, number_) for sign, number_ in pairs))
        if (sized := _SIZED.fullmatch(phrase)) is not None and (word := operator_of(sized[1] or sized[2])) is not None:
            return compare(word, Apply("length", field), Constant(value))
        word = _OF_LISTS.get(phrase) or operator_of(key) or misspelt_operator(str(key))
        if word is None:
            return self._nested(field, str(key), value)
        if word.name == "exists" and phrase in ("set",) and not isinstance(value, bool):
            raise Unclear("set")
        return self._compare(word, field, value)

    def _nested(self, field: Node, key: str, value: Any) -> Node:
        if self._leaf or not isinstance(field, Field):
            raise Unclear(f"an unknown operator {key!r}")
        return self._value(Field((*field.keys, key)), value)

    def _as_field(self, key: str, value: Any) -> Node:
        """``status: error``, ``status__in: [error]``, ``status|contains: error``, ``runs.status: {$eq: error}``."""
        if key in ("quantifier", "path", "expr"):
            raise Unclear(f"{key} alone")
        for mark in ("__", "|", ":"):
            if mark in key and (word := suffix(key, mark)) is not None:
                return self._compare(word[1], self._look(word[0].replace(mark, ".")), value)
        if operator_of(key) is not None and len(self._raw) == 1 and not isinstance(value, dict):
            raise Unclear(f"{key} has nothing to look at")
        if (named := underscored(key)) is not None:
            return self._compare(named[1], self._look(named[0]), value)
        return self._value(self._look(key.replace("__", ".")), value)

    def _value(self, field: Node, value: Any) -> Node:
        """The test of a field by its value alone."""
        if isinstance(value, str) and value.strip("*") != value:
            return glob(field, value, "*", "?")
        if isinstance(value, str) and value[:1] == "!" and value[1:2].isalnum():
            return Not(compare(Word("eq"), field, Constant(value[1:])))
        if isinstance(value, dict) and value:
            return self._operands(field, value)
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            return some(*(self._operands(field, each) for each in value))
        if isinstance(value, list) and any(isinstance(each, (dict, list)) for each in value):
            return some(*(self._value(field, each) for each in value))
        return self._compare(Word("eq"), field, value)

    def _compare(self, word: Word, field: Node, operand: Any) -> Node:
        if isinstance(operand, dict) and word.name in ("length", "count"):
            sized = Apply("length", field)
            return every(*(compare(_known(key), sized, Constant(value)) for key, value in operand.items()))
        if isinstance(operand, dict) and word.name == "between":
            return self._operands(field, ends(operand))
        if isinstance(operand, dict) and word.name == "eq":
            inner = self._operands(field, operand)
            return opposite(inner) if word.negated else inner
        if isinstance(operand, dict) and len(operand) == 1:
            [(key, inner)] = operand.items()
            if (folded := operator_of(key)) is not None and folded.name == "eq" and folded.fold:  # EventBridge
                return fold(self._compare(word, field, inner))
        if isinstance(operand, dict):
            raise Unclear("an operand with keys")
        return adapted(word, field, operand, self._known)


def _texts(operand: Any) -> list[str]:
    return [each for each in (operand if isinstance(operand, list) else [operand]) if isinstance(each, str)]


def _plain_name(text: str) -> str:
    """A field without the prefixes of other tools."""
    keys = keys_of(text.lstrip("@$")) or ()
    return str(keys[-1]) if keys[:-1] in ((), ("run",)) and keys else text


def _is_pair(value: Any) -> bool:
    """``[status, error]``: a field of a run, and a constant."""
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        return False
    return run_field(_plain_name(value[0])) is not None and not isinstance(value[1], (dict, list))


def _known(key: Any) -> Word:
    if (word := operator_of(key)) is None:
        raise Unclear(f"an unknown operator {key!r}")
    return word


def _is_operator(key: Any, rest: Mapping[Any, Any]) -> bool:
    """Whether a key's value names the operator; beside another such key, ``type: number`` does not."""
    value = rest[key]
    if phrase_of(key) == "match" and not any(phrase_of(name) in _VALUES for name in rest):
        return False
    if phrase_of(key) in ("type", "mode", "condition"):
        return isinstance(value, str) and value not in _TYPES and operator_of(value) is not None
    return isinstance(value, str)
