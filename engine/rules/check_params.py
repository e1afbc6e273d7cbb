"""What is known of an action's parameters when the configuration is loaded: faults, defaults, the destination."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from engine.action.param_errors import named_in, no_parameters
from engine.action.params import Fault, Leaves, address_params, literal_faults
from engine.action.registry import Registered
from engine.clients.network import Origin
from engine.config import ActionConfig, Config, comment_hint, kind_of
from engine.core.error_text import named_error
from engine.core.errors import TemplateError
from engine.core.masking import Masker
from engine.core.positions import Source, Where
from engine.rules.origins import AuthorOrigins, origins_in_code
from engine.rules.templates import Template, Templates, is_template


class ParamsChecker:
    """Checks the parameters of actions in one configuration. Problems are reported to its source."""

    def __init__(self, config: Config, templates: Templates) -> None:
        self._config, self._source = config, config.source
        self._masker = Masker(config.masked)
        self._origins = AuthorOrigins(templates, config.vars)
        self._unset = _UnsetVars(config, templates)

    def settled(self, where: Where, template: Template) -> tuple[Any, Leaves]:
        """The parameters with each template rendered that reads only ``vars``: its value is known now."""
        rendered: set[Where] = set()
        if any(self._source.has_problem((*where, *place)) for place in template.settled):
            return template.tree, Leaves(template.templated, template.mixed)
        tree = deepcopy(template.tree) if template.settled else template.tree
        for place in template.settled:
            if self._unset.read_by(_at(template.tree, place)):
                continue
            try:
                value = template.settle(place, self._config.vars)
            except TemplateError as error:
                self._source.report((*where, *place), str(error), error.hint, line=error.line)
                continue
            _put(tree, place, value)
            rendered.add(place)
        return tree, Leaves(template.templated - rendered, template.mixed - rendered, frozenset(rendered))

    def check_literals(self, written: ActionConfig, registered: Registered, template: Template) -> bool:
        """Whether the literal parameters are valid for the action; faults are reported.

        A fault that only follows from an earlier report is not reported.
        """
        where, source = written.params_where, self._source
        if not written.params and source.has_problem_at(where):
            return False
        unsure = any(source.has_problem((*where, name)) for name in written.params)
        if written.params and not registered.params.model_fields:
            source.report(
                (*where, next(iter(written.params))),
                *no_parameters(registered.name, type(registered.action).__name__),
                at_key=True,
            )
            return False
        tree, leaves = self.settled(where, template)
        sound = True
        for fault in self._literal_faults(written, registered, tree, leaves):
            sound = False
            if not (source.has_problem((*where, *fault.where)) if fault.where else unsure and not fault.is_of_name):
                self._report_fault(written, fault)
        return sound

    def _literal_faults(
        self, written: ActionConfig, registered: Registered, tree: Any, leaves: Leaves
    ) -> Sequence[Fault]:
        try:
            return literal_faults(registered.params, tree, leaves)
        except BaseException as error:  # noqa: BLE001 - a plug-in's validator may raise anything
            message = f"{written.type}.Params raised {named_error(error)}"
            return [Fault((), "", message, "a validator raises ValueError for what it refuses", at_key=True)]

    def _report_fault(self, written: ActionConfig, fault: Fault) -> None:
        text = fault.sentence if named_in(fault.sentence, written.type) else f"{written.type}: {fault.sentence}"
        where = (*written.params_where, *fault.where)
        message, hint = self._masker.text(text), self._masker.text(fault.hint)
        self._source.report(where, message, hint, at_key=fault.at_key or not fault.where)

    def check_addresses(self, written: ActionConfig) -> None:
        """Refuse a value that changes where the parts of an address begin and end."""
        for name, value in written.params.items():
            for where, text in _texts(value, (name,)):
                if not self._unset.read_by(text) and (wrong := self._origins.divided(text)) is not None:
                    self._source.report((*written.params_where, *where), *wrong)

    def check_hosts(self, written: ActionConfig, registered: Registered, template: Template) -> None:
        """Refuse templates in which an event decides the host: the address guard does not check these addresses."""
        for name in address_params(registered.params) & written.params.keys():
            for where, text in _texts(written.params[name], (name,)):
                if where in template.settled or not (tag := self._origins.foreign_in(text)):
                    continue
                message = f"{written.type}: {tag[:80]} lets an event decide where this address leads"
                hint = "write scheme and host literally or with vars; what an event adds after them needs | urlencode"
                self._source.report((*written.params_where, *where), message, hint)

    def author_origins(
        self, written: ActionConfig, registered: Registered, required: frozenset[str]
    ) -> frozenset[Origin]:
        """The origins in its parameters, in a plug-in's own code, and of the services that it requires."""
        endpoints = {"langsmith": self._config.langsmith.endpoint, "slack": self._config.slack.endpoint}
        in_code = frozenset[Origin]() if registered.builtin else origins_in_code(type(registered.action))
        return self._origins.of([written.params, *(endpoints[service] for service in required)]) | in_code


class _UnsetVars:
    """The ``vars`` of a configuration that hold a variable which is not set: their values are not known yet."""

    def __init__(self, config: Config, templates: Templates) -> None:
        self._templates = templates
        places = (place for one in config.unset for place in one.places)
        self._names = frozenset(place[1] for place in places if place[0] == "vars" and len(place) > 1)

    def read_by(self, text: str) -> bool:
        """Whether a template reads one of them, or may read it."""
        if not self._names or not is_template(text):
            return False
        looks = [steps for _, steps in self._templates.inspector.looks(text, bare=False) if steps[0] == "vars"]
        return any(len(steps) < 2 or steps[1] is None or steps[1] in self._names for steps in looks)


def _texts(tree: Any, where: Where) -> Iterator[tuple[Where, str]]:
    """The texts of a parameter that is a text or a list of texts, each with its place."""
    if isinstance(tree, str):
        yield where, tree
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            yield from _texts(item, (*where, index))


def _put(tree: Any, where: Where, value: Any) -> None:
    _at(tree, where[:-1])[where[-1]] = value


def _at(tree: Any, where: Where) -> Any:
    for step in where:
        tree = tree[step]
    return tree


def completed(written: ActionConfig, registered: Registered, words: Collection[str], source: Source) -> ActionConfig:
    """The action with its parameters as a mapping. If they cannot be one, that is reported to ``source``.

    ``words`` are those that its templates see besides the words of every document.
    """
    where, params = written.params_where, registered.parameters(written.params)
    if params is None:
        message = f"the parameters of {written.type!r} must be a mapping (key: value), not {kind_of(written.params)}"
        source.report(where, message, f"see 'engine actions {written.type}' for what it takes")
        return replace(written, params={})
    if not params and registered.action.main and (hint := comment_hint(source, where)):
        source.report(where, f"{written.type!r} has no value", hint, at_key=True)
        return replace(written, params={})
    try:
        added = registered.action.defaults(params, words)
    except BaseException as error:  # noqa: BLE001 - a plug-in may raise anything
        source.report(where, f"{written.type}.defaults raised {named_error(error)}", "fix the plug-in", at_key=True)
        added = {}
    return replace(written, params={**added, **params})
