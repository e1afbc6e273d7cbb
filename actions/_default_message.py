"""Templates of the default message: what happened, error or score, latency, cost, a link.

They are rendered like templates in YAML, so event data is escaped where necessary.
"""

from __future__ import annotations

from collections.abc import Collection

#: The maximum number of runs listed in a message about many.
_LISTED = 8
#: The maximum characters of an error: in a message about one run, and in a list.
_LONG, _SHORT = 500, 120

#: The facts after a run's name: status, latency, cost, scores. RUN is the run, STATS its feedback_stats.
_FACTS = (
    "{% if RUN.status %} {{ RUN.status }}{% endif %}"
    "{% if RUN.latency is number %} · {{ RUN.latency | round(2) }} s{% endif %}"
    "{% if RUN.cost is number %} · {{ RUN.cost | round(6) }} USD{% endif %}"
    "{% if STATS is mapping %}{% for key, stat in STATS | dictsort %}"
    "{% if stat is mapping and stat.avg is number %} · {{ key }} {{ stat.avg | round(3) }}{% endif %}"
    "{% endfor %}{% endif %}"
)
#: Of an error with a traceback only the exception, which is before the traceback or at its end.
_RAISED = (
    "((RUN.error | string | trim).split('\\n') | last if (RUN.error | string | trim).startswith('Traceback ')"
    " else (RUN.error | string | trim).split('\\n\\nTraceback ') | first)"
)
_ERROR = f"{{% if RUN.error %}}BEFORE{{{{ {_RAISED} | replace('\\n', ' ') | truncate(MOST) }}}}{{% endif %}}"
#: The text for webhooks without runs. P is the payload, E the event; LINK is replaced as in a run's name.
_ALERT = (
    "{% if P.alert_rule_name %}LINK(P.alert_rule_url|P.alert_rule_name)"
    "{% if P.triggered_metric_value is number %}: {{ P.alert_rule_attribute | default('value', true) }}"
    " {{ P.triggered_metric_value }}{% endif %}"
    "{% if P.triggered_threshold is number %} (threshold {{ P.triggered_threshold }}){% endif %}"
    "{% if P.project_name %} in {{ P.project_name }}{% endif %}"
)
_PROMPT = (
    "{% elif P.prompt_name %}prompt {{ P.prompt_name }}: {{ P.event | default('commit', true) }}"
    " {{ P.commit_hash | default('', true) | string | truncate(12, true, '') }}"
)
_ISSUE = (
    "{% elif P.data is mapping and P.data.object is mapping and P.data.object.title %}"
    "LINK(P.data.object.url|P.data.object.title): {{ P.type | default('issue', true) }}"
)
_COMMIT = (
    "{% elif P.data is mapping and P.data.commit is mapping %}"
    "{{ P.data.commit.repo_type | default('repository', true) }} {{ P.data.commit.repo_handle | default('', true) }}"
    ": commit {{ P.data.commit.commit_hash | default('', true) | string | truncate(12, true, '') }}"
)
_THREADS = (
    "{% elif P.threads is sequence and P.threads is not string and P.threads is not mapping %}"
    "{{ P.threads | length }} thread{% if P.threads | length != 1 %}s{% endif %} went idle"
    f"{{% for each in P.threads[:{_LISTED}]"
    " if each is mapping and each.thread_id %}{{ ': ' if loop.first else ', ' }}"
    "{{ each.thread_id | string | truncate(60) }}{% endfor %}"
)
_OTHERS = _ALERT + _PROMPT + _ISSUE + _COMMIT + _THREADS + "{% else %}{{ E.kind }} webhook {{ E.id }}{% endif %}"

_NAME = "{{ NAME | string | replace('\\n', ' ') | truncate(100) }}"
#: A run's name, or its id.
_NAME_OF_RUN = "(RUN.name | default('run ' ~ RUN.id if RUN.id else 'run', true))"
_COUNT = "{{ runs | length }} run{% if runs | length != 1 %}s{% endif %}"
#: The title for webhooks without runs.
_TITLES = (
    "{% if payload.alert_rule_name %}{{ payload.alert_rule_name | string | truncate(100) }}"
    "{% elif payload.prompt_name %}prompt {{ payload.prompt_name | string | truncate(100) }}"
    "{% elif payload.data is mapping and payload.data.object is mapping and payload.data.object.title %}"
    "{{ payload.data.object.title | string | truncate(100) }}"
    "{% else %}{{ event.kind }} webhook{% endif %}"
)
_SLACK_LINK = f"{{% if URL %}}<{{{{ URL }}}}|{_NAME}>{{% else %}}{_NAME}{{% endif %}}"
_PLAIN_LINK = f"{_NAME}{{% if URL %}} ({{{{ URL }}}}){{% endif %}}"


def slack_text(words: Collection[str]) -> str:
    """The message in Slack's mrkdwn. ``words`` are those of ``items digest throttle delivery`` that exist here."""
    return _message(words, _SLACK_LINK, _run("run", "feedback_stats", _SLACK_LINK, "\n", _LONG))


def plain_text(words: Collection[str]) -> str:
    """The message as plain text. A run's link is on a separate line."""
    return _message(words, _PLAIN_LINK, _run("run", "feedback_stats", _PLAIN_LINK, "\n", _LONG))


def title(words: Collection[str]) -> str:
    """A short title of the message."""
    if "delivery" in words:
        return "{{ route.name }}: {{ delivery.action }} gave up"
    if "digest" in words:
        return "{{ route.name }}: {{ digest.count }} matched"
    run = _NAME.replace("NAME", _NAME_OF_RUN.replace("RUN", "run")) + "{% if run.status %} {{ run.status }}{% endif %}"
    return f"{{{{ route.name }}}}: {{% if run %}}{run}{{% elif runs %}}{_COUNT}{{% else %}}{_TITLES}{{% endif %}}"


def _message(words: Collection[str], link: str, run: str) -> str:
    before = "{{ delivery.action }} gave up: {{ delivery.reason }}\n" if "delivery" in words else ""
    after = "{% if throttle.suppressed %}\n(and {{ throttle.suppressed }} more){% endif %}"
    middle = _digest(link) if "digest" in words else _single(link, run)
    return before + middle + (after if "throttle" in words else "")


def _single(link: str, run: str) -> str:
    """For one run, for all runs of a webhook, or for a webhook without runs."""
    many = _list("runs", "one", _COUNT, _run("one", "one.feedback_stats", link, ": ", _SHORT))
    others = _other("payload", "event", link)
    return f"{{% if run %}}{run}{{% elif runs %}}{many}{{% else %}}{others}{{% endif %}}"


def _digest(link: str) -> str:
    run = _run("item.run", "item.feedback_stats", link, ": ", _SHORT)
    one = f"{{% if item.run %}}{run}{{% else %}}{_other('item.payload', 'item.event', link)}{{% endif %}}"
    return _list("items", "item", "{{ digest.count }} matched {{ route.name }} since {{ digest.since }}", one)


def _list(items: str, name: str, head: str, one: str) -> str:
    rest = f"{{% if {items} | length > {_LISTED} %}}\n… and {{{{ {items} | length - {_LISTED} }}}} more{{% endif %}}"
    return f"{head}:{{% for {name} in {items}[:{_LISTED}] %}}\n• {one}{{% endfor %}}{rest}"


def _run(run: str, stats: str, link: str, before: str, most: int) -> str:
    """One run. In Slack its name is a link; in plain text the link is on a separate line, because most are long."""
    after = "{% if RUN.url %}\n{{ RUN.url }}{% endif %}" if link == _PLAIN_LINK else ""
    named = (_NAME if after else link.replace("URL", "RUN.url")).replace("NAME", _NAME_OF_RUN)
    error = _ERROR.replace("BEFORE", before).replace("MOST", str(most))
    return (named + _FACTS + error + after).replace("RUN", run).replace("STATS", stats)


def _other(payload: str, event: str, link: str) -> str:
    text = _OTHERS
    for url, name in (("P.alert_rule_url", "P.alert_rule_name"), ("P.data.object.url", "P.data.object.title")):
        text = text.replace(f"LINK({url}|{name})", link.replace("URL", url).replace("NAME", name))
    return text.replace("P.", f"{payload}.").replace("E.", f"{event}.")
