"""Config + Registry → Router. The one step between what the user wrote and what runs: after it nothing is invalid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.config import ActionConfig, Config, RetrySpec, RouteConfig
from engine.document import Site
from engine.errors import ConfigError
from engine.filters import compile_filter
from engine.params import escaped_params, literal_faults, validate_rendered
from engine.registry import Registered, Registry
from engine.retry import LANGSMITH_TIMEOUT, RetryPolicy
from engine.route import Needs, Route, RoutedAction
from engine.router import Router
from engine.source import Where
from engine.templates import Template, Templates

_NOTHING: Needs = frozenset()


def compile_router(config: Config, registry: Registry) -> Router:
    """Compile every route, and report every problem found on the way at once.

    Raises:
        ConfigError: with what reading the file found and what compiling it found.
    """
    compiler = _Compiler(config, registry)
    routes = [compiler.route(route) for route in config.routes]
    config.source.problems.extend(problem for problem in registry.clashes if problem not in config.source.problems)
    if config.source.problems:
        raise ConfigError(config.source.problems)
    enabled = [route for written, route in zip(config.routes, routes, strict=True) if written.enabled]
    return Router(
        hash=config.hash,
        langsmith=config.langsmith,
        slack=config.slack,
        site=Site(config.langsmith.web_url),
        vars=dict(config.vars),
        by_key=_by_key(enabled),
        routes={route.id: route for route in enabled},
        retry=compiler.retry,
    )


def _by_key(routes: Iterable[Route]) -> Mapping[str, tuple[Route, ...]]:
    by_key: dict[str, list[Route]] = {}
    for route in routes:
        for key in route.keys:
            by_key.setdefault(key, []).append(route)
    return {key: tuple(found) for key, found in by_key.items()}


class _Compiler:
    """Compiles the routes of one configuration; reports into its source."""

    def __init__(self, config: Config, registry: Registry) -> None:
        self._config, self._registry, self._source = config, registry, config.source
        self._templates = Templates()
        self.retry = _policy(config.retry, RetryPolicy())

    def route(self, written: RouteConfig) -> Route:
        filter_ = compile_filter(written.filters or [], (*written.where, "filters"), self._source, self._templates)
        actions = tuple(action for one in written.actions if (action := self._action(one)) is not None)
        route = Route(
            id=written.id,
            keys=written.keys,
            word={"name": written.name or written.key, "key": written.key},
            per_run=written.for_each == "run",
            filter=filter_,
            actions=actions,
            stop=written.stop,
            sample=written.sample,
        )
        self._check_reach(written.where, route)
        return route

    def _action(self, written: ActionConfig) -> RoutedAction | None:
        registered = self._registry.get(written.type)
        if registered is None:
            message, hint = self._registry.explain_missing(written.type)
            self._source.report(written.params_where, message, hint, at_key=True)
            return None
        template = self._templates.compile_into(
            written.params, written.params_where, self._source, escape=escaped_params(registered.params)
        )
        sound = self._check_literals(written, registered, template)
        when = None
        if written.when is not None:
            when = compile_filter(written.when, (*written.where, "when"), self._source, self._templates)
        retry = _policy(written.retry, self.retry) if written.retry else self.retry
        return RoutedAction(
            name=written.name,
            registered=registered,
            template=template,
            when=when,
            needs=template.needs | registered.action.needs,
            retry=retry,
            timeout=self._timeout(written, retry),
            fixed=validate_rendered(registered.params, template.render({})) if sound and template.literal else None,
        )

    def _timeout(self, written: ActionConfig, retry: RetryPolicy) -> float:
        if written.timeout is not None:
            return written.timeout
        return LANGSMITH_TIMEOUT if retry.kind == "langsmith" else self._config.timeout

    def _check_literals(self, written: ActionConfig, registered: Registered, template: Template) -> bool:
        """Whether the literal parameters are what the action takes; what they are not is reported."""
        sound = True
        for path, message, hint, at_key in literal_faults(registered.params, written.params, template.templated):
            sound = False
            where = (*written.params_where, *path)
            self._source.report(where, f"{written.type}: {message}", hint, at_key=at_key or not path)
        return sound

    def _check_reach(self, where: Where, route: Route) -> None:
        """Feedback is never in a webhook: without a key to ask LangSmith, what reads it can never be decided."""
        reads = route.needs.union(*(action.needs for action in route.actions)) if route.actions else route.needs
        if "feedback" in reads and self._config.langsmith.api_key is None:
            hint = 'add at the top level: langsmith: {api_key: "${LANGSMITH_API_KEY}"}'
            self._source.report(where, "this route reads feedback, which has to be fetched from LangSmith", hint)


def _policy(spec: RetrySpec, base: RetryPolicy) -> RetryPolicy:
    """A retry policy: what the spec says, and of the rest what its base says."""
    if spec.policy == "langsmith":
        return RetryPolicy.of_langsmith()
    return RetryPolicy(
        attempts=base.attempts if spec.attempts is None else spec.attempts,
        within=base.within if spec.within is None else spec.within,
        shortest=base.shortest if spec.shortest is None else spec.shortest,
        longest=base.longest if spec.longest is None else spec.longest,
    )
