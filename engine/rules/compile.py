"""Config + Registry → Router. The one step between what the user wrote and what runs; its result is always valid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from pydantic import BaseModel

from engine.action.params import escaped_params, validate_rendered
from engine.action.registry import Registered, Registry
from engine.action.retry import LANGSMITH_TIMEOUT, RetryPolicy
from engine.action.target import static_destination, target_of
from engine.config import ActionConfig, Config, RetrySpec, RouteConfig
from engine.config.keys import KEY_WORDS
from engine.core.error_text import named_error
from engine.core.errors import ConfigError
from engine.core.positions import Where
from engine.core.schedule import Active, never_open
from engine.core.suggest import did_you_mean
from engine.core.vocabulary import ON_DEAD, Vocabulary
from engine.rules.check_params import ParamsChecker, completed
from engine.rules.conditions import Filter, compile_filter
from engine.rules.route import Gating, Route, RoutedAction, WaitFor
from engine.rules.router import Router
from engine.rules.templates import Template, Templates

#: Names that other products use → the action that does the same here.
_OTHER_NAMES: Final = {
    "slack": "post_to_slack",
    "slack_message": "post_to_slack",
    "post_slack": "post_to_slack",
    "send_to_slack": "post_to_slack",
    "dataset": "add_to_dataset",
    "add_example": "add_to_dataset",
    "create_example": "add_to_dataset",
    "webhook": "forward_webhook",
    "forward": "forward_webhook",
    "http": "forward_webhook",
    "http_request": "forward_webhook",
    "post": "forward_webhook",
    "call_webhook": "forward_webhook",
    "email": "notify",
    "mail": "notify",
    "send_email": "notify",
    "teams": "notify",
    "pagerduty": "notify",
    "annotation_queue": "annotate",
    "add_to_queue": "annotate",
    "feedback": "annotate",
    "add_feedback": "annotate",
    "print": "log",
    "logger": "log",
}
#: What templates of ``on_dead`` see besides the document.
_DEAD_WORDS: Final = frozenset({"delivery", "throttle"})
#: For each service that an action may require: what it needs, the key in its block, and the usual variable.
_SERVICES: Final = {
    "langsmith": ("a LangSmith API key", "api_key", "LANGSMITH_API_KEY"),
    "slack": ("a Slack token", "token", "SLACK_BOT_TOKEN"),
}


def compile_router(config: Config, registry: Registry) -> Router:
    """Compile every route and report every problem at once.

    Raises:
        ConfigError: with the problems of reading the file and of compiling it.
    """
    compiler = _Compiler(config, registry)
    routes = [compiler.route(route) for route in config.routes]
    compiler.report_broken()
    config.source.problems.extend(problem for problem in registry.clashes if problem not in config.source.problems)
    if config.source.problems:
        raise ConfigError(config.source.problems)
    enabled = [route for written, route in zip(config.routes, routes, strict=True) if written.enabled]
    return Router(
        hash=config.hash,
        private_hash=config.private_hash,
        langsmith=config.langsmith,
        slack=config.slack,
        web_url=config.langsmith.web_url,
        vars=dict(config.vars),
        by_key=_by_key(enabled),
        routes={route.id: route for route in enabled},
        retry=compiler.retry.for_data(),
        network=config.network,
        limits=config.limits,
    )


def _by_key(routes: Iterable[Route]) -> Mapping[str, tuple[Route, ...]]:
    by_key: dict[str, list[Route]] = {}
    for route in routes:
        for key in route.keys:
            by_key.setdefault(key, []).append(route)
    return {key: tuple(found) for key, found in by_key.items()}


class _Compiler:
    """Compiles the routes of one configuration. Problems are reported to its source."""

    def __init__(self, config: Config, registry: Registry) -> None:
        self._config, self._registry, self._source = config, registry, config.source
        self._keyless: set[tuple[str, Where]] = set()
        self._per_run = True  # of the route being compiled
        self._of_feedback: list[Where] = []  # places in that route that read feedback
        self._uses: dict[str, list[str]] = {}  # of actions that cannot be loaded: where routes name them
        self._templates = self._all_templates = Templates(Vocabulary(config.vars))
        self._params = ParamsChecker(config, self._templates)
        self.retry = _policy(config.retry, RetryPolicy())

    def route(self, written: RouteConfig) -> Route:
        where = (*written.where, "filters")
        self._per_run = written.for_each == "run"
        self._templates = self._all_templates.of_rule(not KEY_WORDS & set(written.keys))
        filter_ = compile_filter(written.filters or [], where, self._source, self._templates, per_run=self._per_run)
        self._of_feedback = [(*written.where, "wait_for")] if written.wait_for is not None else []
        self._of_feedback += _conditions_of_feedback(filter_, where)
        hours = () if written.active is None else (written.active,)
        actions = tuple(action for one in written.actions if (action := self._action(one, hours)) is not None)
        on_dead = tuple(action for one in written.on_dead if (action := self._action(one, (), _DEAD_WORDS)) is not None)
        wait = written.wait_for
        route = Route(
            id=written.id,
            keys=written.keys,
            word={"name": written.name or written.key, "key": written.key},
            per_run=written.for_each == "run",
            filter=filter_,
            actions=actions,
            stop=written.stop,
            sample=written.sample,
            wait_for=None if wait is None else WaitFor(wait.feedback, wait.up_to),
            on_dead=tuple(replace(action, name=f"{ON_DEAD}{action.name}") for action in on_dead),
        )
        self._check_reach(written.where)
        return route

    def _action(
        self, written: ActionConfig, hours: tuple[Active, ...], beside: frozenset[str] = frozenset()
    ) -> RoutedAction | None:
        """``hours`` are the route's; ``beside`` are words that its templates see besides those of every document."""
        registered = self._registry.get(written.type)
        if registered is None:
            if self._source.suppressed(("plugins",)):  # it may be in a folder that is not known
                return None
            self._report_missing(written)
            return None
        words = beside | _words(written)
        written = completed(written, registered, words, self._source)
        template = self._templates.knowing(words).compile_into(
            written.params, written.params_where, self._source, escape=escaped_params(registered.params)
        )
        sound = self._params.check_literals(written, registered, template)
        self._params.check_addresses(written)
        self._params.check_hosts(written, registered, template)
        required = self._check_required(written, registered)
        when = None
        if written.when is not None:
            templates = self._templates.knowing(beside)
            place = (*written.where, "when")
            when = compile_filter(written.when, place, self._source, templates, per_run=self._per_run)
            self._of_feedback += _conditions_of_feedback(when, (*written.where, "when"))
        self._of_feedback += _places_of_feedback(template, written.params_where)
        if "feedback" in registered.action.needs:
            self._of_feedback.append(written.params_where)
        retry = _policy(written.retry, self.retry) if written.retry else self.retry
        return RoutedAction(
            name=written.name,
            registered=registered,
            template=template,
            when=when,
            needs=template.needs | registered.action.needs,
            retry=retry,
            timeout=self._timeout(written, retry),
            static_params=self._static_params(registered, template) if sound else None,
            destination=self._destination(registered, written.params_where, template) if sound else None,
            target=self._target(registered, written.params_where, template, required) if sound else "",
            origins=self._params.author_origins(written, registered, required),
            locate=self._locator(written.params_where),
            gating=self._gating(written),
            digests=written.digest is not None,
            active=self._active(written, hours),
        )

    def _static_params(self, registered: Registered, template: Template) -> BaseModel | None:
        """The checked parameters, if they hold no template."""
        return validate_rendered(registered.params, template.render({})) if template.literal else None

    def _destination(self, registered: Registered, where: Where, template: Template) -> str | None:
        """The one destination of all deliveries; None if it depends on the event, or for a plug-in until it runs."""
        if not registered.builtin:
            return None
        tree, leaves = self._params.settled(where, template)
        return static_destination(registered, tree, {place[0] for place in leaves.templated if place})

    def _target(self, registered: Registered, where: Where, template: Template, required: frozenset[str]) -> str:
        """A fingerprint of the services it uses: where it delivers, and LangSmith if data is fetched for it."""
        config, tree = self._config, self._params.settled(where, template)[0]
        reads = template.needs | registered.action.needs
        services = [config.langsmith] if reads or "langsmith" in required else []
        return target_of(registered, tree, config.vars, [*services, *([config.slack] if "slack" in required else [])])

    def _gating(self, written: ActionConfig) -> Gating | None:
        """The action's throttle or digest, with the compiled template of its key."""
        spec = written.throttle or written.digest
        if spec is None:
            return None
        by = None
        if spec.by is not None:
            by = self._templates.compile_into(spec.by, (*spec.where, "by"), self._source)
            self._of_feedback += _places_of_feedback(by, (*spec.where, "by"))
        return Gating("throttle" if written.throttle else "digest", spec.every, by, spec.most)

    def _active(self, written: ActionConfig, hours: tuple[Active, ...]) -> tuple[Active, ...]:
        """The hours that must all hold. Hours that never overlap are a mistake."""
        if written.active is None:
            return hours
        both = (*hours, written.active)
        if never_open([one.schedule for one in both]):
            message = "the action is never active when its route is: their hours have nothing in common"
            hint = f"the route's are {hours[0].schedule}"
            self._source.report((*written.where, "active"), message, hint, at_key=True)
        return both

    def _report_missing(self, written: ActionConfig) -> None:
        """Report an unknown action here; one that cannot be loaded once, in its own file, see ``report_broken``."""
        where, name = written.params_where, written.type
        if name in self._registry.broken:
            self._uses.setdefault(name, []).append(self._source.problem(where, "", at_key=True).place)
        else:
            self._source.report(where, *self._explain_missing(name), at_key=True)

    def report_broken(self) -> None:
        """Report why the actions that routes name cannot be loaded, and where they are named."""
        for name, places in self._uses.items():
            problem = self._registry.broken[name]
            used = f"action {name!r} is used at {', '.join(places)}"
            self._source.add(replace(problem, hint="; ".join(filter(None, (problem.hint, used)))))

    def _explain_missing(self, name: str) -> tuple[str, str]:
        """Message and hint for an unknown action; names that other products use are recognized."""
        message, hint = self._registry.explain_missing(name)
        ours = _OTHER_NAMES.get(name.lower().replace("-", "_"), "")
        if self._registry.get(ours) is None:
            return message, hint
        return message, did_you_mean(name, (), synonyms={name: ours})

    def _locator(self, params_where: Where) -> Callable[[Where, int], str]:
        """A function that gives the position of a parameter in the file."""
        source, file = self._source, PurePath(self._config.file).name

        def locate(where: Where, line: int) -> str:
            number = source.line_of((*params_where, *where), line)
            return f"{file}:{number}" if number else file

        return locate

    def _timeout(self, written: ActionConfig, retry: RetryPolicy) -> float:
        if written.timeout is not None:
            return written.timeout
        return LANGSMITH_TIMEOUT if retry.kind == "langsmith" else self._config.timeout

    def _check_required(self, written: ActionConfig, registered: Registered) -> frozenset[str]:
        """The services it requires. A missing key is an error: its deliveries could never succeed."""
        keys = {"langsmith": self._config.langsmith.api_key, "slack": self._config.slack.token}
        required = self._required(written, registered)
        for service in sorted(required):
            if keys[service] or self._source.has_problem((service,)):
                continue
            needed, key, variable = _SERVICES[service]
            line = f'{key}: "${{{variable}}}"'
            inside = (service,) in self._source.marks
            hint = f"add below {service}: {line}" if inside else f"add at the top level: {service}: {{{line}}}"
            message = f"{written.type} needs {needed}, and there is none: {service}.{key} is not set"
            self._source.report(written.params_where, message, hint, at_key=True)
            self._keyless.add((service, written.where[:-2]))
        return required

    def _required(self, written: ActionConfig, registered: Registered) -> frozenset[str]:
        """The services that an action says it requires."""
        try:
            return frozenset(registered.action.requires(written.params)) & _SERVICES.keys()
        except BaseException as error:  # noqa: BLE001 - a plug-in may raise anything
            message = f"{written.type}.requires raised {named_error(error)}"
            self._source.report(written.params_where, message, "fix the plug-in", at_key=True)
            return frozenset()

    def _check_reach(self, where: Where) -> None:
        """Report feedback that is read without a LangSmith key: it is never in a webhook and could not be fetched."""
        settled = ("langsmith", where) in self._keyless or self._source.has_problem(("langsmith",))
        if self._of_feedback and self._config.langsmith.api_key is None and not settled:
            hint = 'add at the top level: langsmith: {api_key: "${LANGSMITH_API_KEY}"}'
            message = "this reads feedback, which has to be fetched from LangSmith"
            self._source.report(self._of_feedback[0], message, hint)


def _conditions_of_feedback(filter_: Filter, where: Where) -> list[Where]:
    """The places of conditions that read feedback."""
    return [(*where, index) for index, condition in enumerate(filter_.conditions) if "feedback" in condition.needs]


def _places_of_feedback(template: Template, where: Where) -> list[Where]:
    """The places of templates that read feedback."""
    return [(*where, *place) for place, needs in template.reads.items() if "feedback" in needs]


def _words(written: ActionConfig) -> frozenset[str]:
    """The words that an action's templates see because of its digest or throttle."""
    if written.digest is not None:
        return frozenset({"items", "digest"})
    return frozenset() if written.throttle is None else frozenset({"throttle"})


def _policy(spec: RetrySpec, base: RetryPolicy) -> RetryPolicy:
    """The base policy with the values of the spec in place of its own."""
    if spec.policy == "langsmith":
        return RetryPolicy.of_langsmith(base.for_data())
    return RetryPolicy(
        attempts=base.attempts if spec.attempts is None else spec.attempts,
        within=base.within if spec.within is None else spec.within,
        shortest=base.shortest if spec.shortest is None else spec.shortest,
        longest=base.longest if spec.longest is None else spec.longest,
        kind=base.kind,
        data=None if base.kind == "engine" else _policy(spec, base.for_data()),
    )
