"""A condition written as a mapping in another tool's notation → its meaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from engine.core.vocabulary import run_field
from engine.rules.dialects.calls import STATES, anchored, compare, fold, glob
from engine.rules.dialects.fields import keys_of
from engine.rules.dialects.meaning import (
    BOOLEAN,
    Call,
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
    truth,
)
from engine.rules.dialects.operands import concatenated, logic_value, spelled, typed, with_operator, without_flags
from engine.rules.dialects.shapes import reshaped
from engine.rules.dialects.text import parse_text
from engine.rules.dialects.words import Word, known_operator, misspelt_operator, operator_of, phrase_of


def _phrases(groups: Mapping[str, str]) -> dict[str, str]:
    return {phrase: ours for ours, phrases in groups.items() for phrase in phrases.split(",")}


def _set(phrases: str) -> frozenset[str]:
    return frozenset(phrases.split(","))


#: Keys of conditions in others, with what they mean. A single condition in another is every one of them.
_GROUPS: Final = _phrases({
    "all": "all,and,&&,must,all of,allof,every,conditions,rules,filters,match all,filter,musts,each,matchers,matches,"
    "match expressions,check,if,when,where,condition,query,bool,expression,expr,jq,jmespath,cel,script,rule,"
    "constant score,criteria,predicate,jinja,template,match expression,simple,test,assert,sql,value template,lucene,"
    "kql,promql,rego,query string,logql,js,python,javascript,search,selector",
    "any": "any,or,||,should,any of,anyof,some,one of,match any",
    "none": "none,nor,must not,none of,noneof,match none",
    "not": "not,!,negate,unless,except",
})  # fmt: skip
_JOINED: Final[dict[str, Callable[..., Node]]] = {
    "all": every, "any": some, "none": lambda *parts: Not(some(*parts)), "not": lambda *parts: Not(every(*parts)),
}  # fmt: skip
#: Keys of the parts of one condition.
_FIELDS: Final = _set(
    "path,expr,field,key,attribute,property,selector,entity id,value1,left,lhs,left value,variable,var,fact,source,"
    "jsonpath,json path,metric,column,subject,label,data path,lookup,field name,property name,dimension,left operand,"
    "tag,parameter,param,json key,field path,item,operand1,target field,input field"
)
_OPERATORS: Final = _set(
    "op,operator,operation,comparator,comparison,cmp,condition,match,relation,predicate,test,compare,function,rel,"
    "matcher,qualifier,comparison operator,compare type,match type,operator type,filter type,method,type,mode,"
    "match mode"
)
_VALUES: Final = _set(
    "value,values,pattern,value2,right,rhs,right value,threshold,expected,operand,compare value,compare to,criteria,"
    "object,argument,val,right operand,target value,operand2,target,filter value,constant,expected value"
)
_IGNORED: Final = frozenset({"id", "description", "comment", "enabled", "note", "boost", "then"})
_KINDS: Final = ("type", "value type", "data type")
_TYPES: Final = _phrases({
    "number": "number,numeric,int,integer,float,double", "bool": "bool,boolean",
    "text": "string,str,text,list,array,date,datetime,keyword",
})  # fmt: skip
#: Words of groups after a field.
_OF_LISTS: Final = {
    "all": Word("contains_all"), "any": Word("contains_any"), "none": Word("contains_any", negated=True),
}  # fmt: skip
#: The ends of a range.
_ENDS: Final = _phrases({"gte": "from,start,low,lower", "lte": "to,end,high,upper"})
_SIZED: Final = re.compile(r"(?:length|len|size|count) (\w.*)|(min|max) (?:length|len|items|size)")
_PATTERN: Final = re.compile(r"^\^|\$$|\.\*")
_TEMPLATE: Final = re.compile(r"\$?\{\{-?(.*?)-?\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mappings:
    """Reads conditions in any notation.

    ``sound`` says whether a condition is valid as written, ``path`` whether a path is; ``variables`` are the
    configuration's.
    """

    sound: Callable[[Any], bool]
    path: Callable[[str], bool]
    variables: Mapping[str, Any]

    def condition(self, raw: Any) -> Node:
        """The meaning of a condition; its fields are as written.

        Raises:
            Unclear: the notation is not known.
        """
        raw = reshaped(raw)
        match raw:
            case str():
                return truth(parse_text(_bare(raw)))
            case [str() as operator, *pair] if _is_pair(pair):
                return self._part(operator, pair, alone=True) or every()
            case [_, *_]:
                return every(*map(self.condition, raw))
            case {**keys} if keys:
                return Native(raw) if self.sound(raw) else self._mapping(raw)
        raise Unclear("neither text nor mapping")

    def _mapping(self, raw: dict[Any, Any]) -> Node:
        if (key := _field_key(raw)) is not None:
            return self._of_field(raw[key], {name: value for name, value in raw.items() if name != key})
        match sorted(raw.values(), key=lambda value: isinstance(value, list)):
            case [str() as word, [*parts]] if word.lower() in ("and", "or", "all", "any", "&&", "||"):  # query builders
                return _JOINED[_GROUPS[word.lower()]](*map(self.condition, parts))
        parts = [self._part(key, value, alone=len(raw) == 1) for key, value in raw.items()]
        if not any(parts):
            raise Unclear("nothing to ask")
        return every(*(part for part in parts if part is not None))

    # --- keys with a fixed meaning ---

    def _part(self, key: Any, value: Any, *, alone: bool) -> Node | None:
        phrase, word = phrase_of("null" if key is None else key), operator_of(key)
        if phrase in ("trace filter", "tree filter"):  # LangSmith's, which look at other runs than the webhook's
            raise Unclear("other runs")
        if phrase in _IGNORED and not (alone and phrase in ("id", "enabled")):
            if phrase == "then" and value is not True:
                raise Unclear("a consequence in a condition")
            return None
        if word is not None and (found := self._json_logic(word, value)) is not None:
            return found
        parts = value if isinstance(value, list) else [value]
        if phrase in _GROUPS and parts and all(isinstance(part, (dict, str, list)) for part in parts):
            return _JOINED[_GROUPS[phrase]](*map(self.condition, parts))
        if isinstance(value, dict) and phrase in ("match labels", "labels", "tags match"):
            return self.condition(value)
        if word is not None and isinstance(value, dict) and (found := self._operator_first(phrase, word, value)):
            return found
        return self._as_field(str(key), value, alone=alone)

    def _json_logic(self, word: Word, value: Any) -> Node | None:
        """``{"==": [{"var": "run.status"}, "error"]}``, ``{equals: [status, error]}``."""
        if _is_pair(value) and word.name not in ("in", "between"):
            return compare(word, self._look(value[0]), Constant(value[1]))
        if not isinstance(value, list) or not any(isinstance(each, dict) and each.keys() == {"var"} for each in value):
            return None
        sides = [logic_value(each) for each in value]
        return every(*(compare(word, left, right) for left, right in pairwise(sides)))

    def _operator_first(self, phrase: str, word: Word, fields: Mapping[Any, Any]) -> Node | None:
        """``{term: {status: error}}``, ``{exists: {field: error}}``: the operator, then the field."""
        if fields.keys() == {"field"}:
            return compare(word, self._look(str(fields["field"])))
        if any(operator_of(field) is not None and phrase_of(field) != "name" for field in fields):
            return None
        word = Word("eq") if phrase == "match" else word
        parts = []
        for name, operand in fields.items():
            field = self._look(str(name))
            value: Any = operand.get("value", operand.get("query", operand)) if isinstance(operand, dict) else operand
            if isinstance(value, str) and phrase in ("match re", "regexp"):
                value = anchored(value)
            nested = isinstance(value, dict)
            parts.append(self._operands(field, value) if nested else self._compare(word, field, value))
        return every(*parts)

    # --- a field, then its test ---

    def _look(self, text: str) -> Node:
        """A field in any notation, by name or in template braces."""
        text = _bare(text)
        if text[:1] in ("@", "$") and text[1:].isidentifier():  # Logic Apps and Mongo
            text = text[1:]
        if text.startswith("$") and self.path(text):
            return Path(text)
        keys = keys_of(text)
        plain = text.startswith(("/", "#/")) or not re.search(r"[+*/() ]", re.sub(r"\[\*\]|\.\*", "", text))
        return Field(keys) if keys is not None and plain else parse_text(text)

    def _of_field(self, text: str, rest: dict[Any, Any]) -> Node:
        field = self._look(text)
        if isinstance(field, BOOLEAN):  # a path with a filter: it must find something
            if rest in ({"exists": True}, {"eq": True}):
                return field
            raise Unclear("a filter and an operator")
        rest, change = without_flags(rest)
        return change(self._asked(field, rest))

    def _asked(self, field: Node, rest: dict[Any, Any]) -> Node:
        """``{op: eq, value: error}``, ``{type: number, comparator: ">", value: ["10"]}``, ``{eq: error}``."""
        named = [key for key in rest if phrase_of(key) in _OPERATORS and _is_operator(key, rest)]
        values = [key for key in rest if phrase_of(key) in _VALUES]
        if not (named or values):
            return self._operands(field, rest, leaf=True)
        kinds = [key for key in rest if phrase_of(key) in _KINDS and str(rest[key]) in _TYPES]
        others = [key for key in rest if key not in (*named, *values, *kinds) and phrase_of(key) not in _IGNORED]
        if others or len(named) > 1 or len(values) > 1:
            raise Unclear("more than an operator and a value")
        word = known_operator(rest[named[0]] if named else "matches" if values == ["pattern"] else "eq")
        if not values and word.name not in STATES:
            raise Unclear("an operator without a value")
        operand = rest[values[0]] if values else None
        if kinds:
            operand = typed(operand, _TYPES[str(rest[kinds[0]])])
            texts = [each for each in (operand if isinstance(operand, list) else [operand]) if isinstance(each, str)]
            if word.name == "eq" and any(map(_PATTERN.search, texts)):  # Argo: these are patterns
                word = Word("matches", word.negated)
        return self._compare(word, field, operand)

    def _operands(self, field: Node, operands: Mapping[Any, Any], *, leaf: bool = False) -> Node:
        """``{gte: 10, lt: 20}``: operators with their operands, in any spelling. ``leaf``: no name of a field."""
        kept, change = without_flags(dict(operands))
        if not kept:
            raise Unclear("a field without an operator")
        return change(every(*(self._operand(field, key, value, leaf=leaf) for key, value in kept.items())))

    def _operand(self, field: Node, key: Any, value: Any, *, leaf: bool = False) -> Node:
        key = "null" if key is None else key
        phrase = phrase_of(key)
        match phrase, value:
            case "not" | "!", _ if not isinstance(value, bool):
                return opposite(self._value(field, value))
            case "is" | "has" | "value" | "matches" | "should be" | "to be", dict():
                return self._operands(field, value)
            case "elem match", dict() if isinstance(field, Field):
                return self._operands(Field((*field.keys, None)), value)
            case "numeric", [_, _] | [_, _, _, _]:  # EventBridge
                pairs = zip(value[::2], value[1::2], strict=True)
                return every(*(self._operand(field, sign, limit) for sign, limit in pairs))
            case "quantifier", _:
                raise Unclear("a quantifier")
        sized = _SIZED.fullmatch(phrase)
        if sized is not None and (word := operator_of(sized[1] or sized[2])) is not None:
            return compare(word, Call("length", (field,)), Constant(value))
        word = _OF_LISTS.get(phrase) or operator_of(key) or misspelt_operator(str(key))
        if word is not None and (phrase != "set" or isinstance(value, bool)):
            return self._compare(word, field, value)
        if leaf or word is not None or not isinstance(field, Field):
            raise Unclear(f"an unknown operator {key!r}")
        return self._value(Field((*field.keys, str(key))), value)

    def _as_field(self, key: str, value: Any, *, alone: bool) -> Node:
        """``status: error``, ``status__in: [error]``, ``status|contains: error``, ``runs.status: {$eq: error}``."""
        if key in ("quantifier", "path", "expr"):
            raise Unclear(f"{key} alone")
        found = with_operator(key)
        if found is None and alone and operator_of(key) is not None and not isinstance(value, dict):
            raise Unclear(f"{key} has nothing to look at")
        if found is not None:
            return self._compare(found[1], self._look(found[0]), value)
        return self._value(self._look(key.replace("__", ".")), value)

    def _value(self, field: Node, value: Any) -> Node:
        """The test of a field by its value alone."""
        match value:
            case str() if value.strip("*") != value:
                return glob(field, value)
            case str() if value[:1] == "!" and value[1:2].isalnum():
                return Not(compare(Word("eq"), field, Constant(value[1:])))
            case {**operands} if operands:
                return self._operands(field, operands)
            case list() if any(isinstance(each, (dict, list)) for each in value):
                return some(*(self._value(field, each) for each in value))
        return self._compare(Word("eq"), field, value)

    def _compare(self, word: Word, field: Node, operand: Any) -> Node:
        match word.name, operand:
            case "length" | "count", dict():
                sized = Call("length", (field,))
                return every(*(compare(known_operator(key), sized, Constant(value)) for key, value in operand.items()))
            case "between", dict():
                return self._operands(
                    field, {_ENDS.get(str(key).lower(), key): value for key, value in operand.items()}
                )
            case "eq", dict():
                inner = self._operands(field, operand)
                return opposite(inner) if word.negated else inner
            case _, {"equals-ignore-case": inner}:  # EventBridge
                return fold(self._compare(word, field, inner))
            case _, dict():
                raise Unclear("an operand with keys")
            case "lt" | "lte" | "gt" | "gte" | "contains" | "matches" | "like", [single]:
                return self._compare(word, field, single)
            case "contains" | "matches" | "like" | "starts_with" | "ends_with", list():
                made = some(*(self._compare(Word(word.name, fold=word.fold), field, each) for each in operand))
                return opposite(made) if word.negated else made
            case _, str():
                word, operand = spelled(word, operand)
        return compare(word, field, self._node(operand))

    def _node(self, operand: Any) -> Node:
        """An operand, in which there may be templates."""
        match operand:
            case str() if (pieces := _TEMPLATE.split(operand)) != [operand]:  # texts, with expressions between them
                parts = [parse_text(piece) if place % 2 else Constant(piece) for place, piece in enumerate(pieces)]
                return concatenated([part for part in parts if part != Constant("")])
            case [single] if self._is_list(node := self._node(single)):
                return node
            case list() if any(isinstance(each, str) and _TEMPLATE.search(each) for each in operand):
                return Call("list", tuple(map(self._node, operand)))
        return Constant(operand)

    def _is_list(self, node: Node) -> bool:
        """Whether a variable of the configuration is a list."""
        value: Any = {"vars": self.variables}
        for key in node.keys if isinstance(node, Field) else ():
            value = value.get(key) if isinstance(value, Mapping) else None
        return isinstance(value, list)


def _field_key(raw: Mapping[Any, Any]) -> Any:
    """The key that names the field, if there is one."""
    phrases = {phrase_of(key): key for key in raw}
    found = [key for phrase, key in phrases.items() if phrase in _FIELDS and isinstance(raw[key], str)]
    if not found and "name" in phrases and len(raw) > 2 and phrases.keys() & (_OPERATORS | _VALUES):
        found = [phrases["name"]]
    return next((key for key in ("path", "expr", *found) if key in found and len(raw) > 1), None)


def _bare(text: str) -> str:
    """An expression without the braces of a template."""
    text = text.strip()
    return _TEMPLATE.sub(r"\1", text.removeprefix("=") if text.startswith("={{") else text).strip()


def _is_pair(value: Any) -> bool:
    """``[status, error]``: a field of a run, and a constant."""
    match value:
        case [str() as text, constant] if not isinstance(constant, (dict, list)):
            keys = keys_of(text.lstrip("@$")) or ()
            return keys[:-1] in ((), ("run",)) and keys != () and run_field(str(keys[-1])) is not None
    return False


def _is_operator(key: Any, rest: Mapping[Any, Any]) -> bool:
    """Whether a key's value names the operator; beside another such key, ``type: number`` does not."""
    phrase, value = phrase_of(key), rest[key]
    if not isinstance(value, str) or (phrase == "match" and not any(phrase_of(name) in _VALUES for name in rest)):
        return False
    return phrase not in ("type", "mode", "condition") or (value not in _TYPES and operator_of(value) is not None)
