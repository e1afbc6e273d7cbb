"""What a 410 and a 401 block: one URL or one credential, and their names."""

from __future__ import annotations

import hashlib
import random

import pytest

from actions.forward_webhook import ForwardWebhook
from actions.post_to_slack import PostToSlack
from engine.action.failures import Scope
from engine.clients.limits import LimitTable
from engine.core.masking import Masker
from engine.worker.destinations.blocks import ScopedBlocks
from engine.worker.destinations.destination import Destination, NotAdmitted
from engine.worker.destinations.table import DestinationTable

NOW = 1000.0
TABLE = LimitTable()
SECRET = "a-secret-token"
MASKER = Masker([SECRET, "https://hooks.example/secret-path-one", "https://hooks.example/secret-path-two"])


class World:
    """Scoped blocks of one destination."""

    def __init__(self, key: str = "one") -> None:
        self.table = DestinationTable(random.Random(1))
        self.scoped = ScopedBlocks(self.table, lambda text: hashlib.sha256(f"{key}{text}".encode()).hexdigest())

    def destination(self, name: str = "https://hooks.example") -> Destination:
        return self.table.get_or_add(name, name, TABLE, NOW)

    def gone(self, url: str) -> str:
        return self.scoped.names(self.destination(), Scope(url), MASKER)[0]

    def refused(self, credential: str, service: str = "") -> str:
        return self.scoped.names(self.destination(), Scope("", credential, service), MASKER)[1]

    def check(self, *names: str, now: float = NOW) -> NotAdmitted | tuple[Destination, ...]:
        return self.scoped.check(names, now)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://hooks.example", "https://hooks.example"),
        ("https://hooks.example/", "https://hooks.example"),
        ("https://hooks.example/a/b", "https://hooks.example/a/b"),
        ("", "https://hooks.example"),
    ],
)
def test_a_url_without_anything_to_hide_is_its_name(world: World, url: str, name: str) -> None:
    assert world.gone(url) == name


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("https://hooks.example/secret-path-one", "https://hooks.example (url "),
        ("https://hooks.example/secret-path-two", "https://hooks.example (url "),
        ("https://hooks.example/a?id=1", "https://hooks.example/a (url "),
        ("https://hooks.example/a?id=2", "https://hooks.example/a (url "),
        (f"https://user:{SECRET}@hooks.example/a", "https://hooks.example/a (url "),
        ("https://hooks.example/" + "x" * 5000, "https://hooks.example/xxx"),
    ],
)
def test_the_name_of_another_url_shows_no_secret(world: World, url: str, start: str) -> None:
    name = world.gone(url)
    assert name.startswith(start)
    assert name.isprintable()
    assert len(name) < 200
    assert all(word not in name for word in (SECRET, "secret-path", "id=", "user"))
    assert name == World().gone(url), "it is the same after a restart"


def test_urls_are_distinguished_and_tokens_in_queries_leave_no_trace(world: World) -> None:
    urls = ["secret-path-one", "secret-path-two", "a?id=1", "a?id=2", "a"]
    assert len({world.gone(f"https://hooks.example/{url}") for url in urls}) == 5
    other = Masker([SECRET.upper()])
    named = world.scoped.names(world.destination(), Scope(f"https://hooks.example/a?token={SECRET.upper()}"), other)[0]
    assert named == world.gone(f"https://hooks.example/a?token={SECRET}")


def test_the_name_of_a_credential_does_not_help_to_guess_it(world: World) -> None:
    name = world.refused("password1")
    assert name.startswith("https://hooks.example (key ")
    assert name == world.refused("password1") != world.refused("password2")
    assert name == World().refused("password1") != World("another").refused("password1"), "the store has the key"
    assert world.refused("token", "slack").startswith("slack (key ")
    assert world.refused("") == "https://hooks.example"


def test_a_scoped_block_is_probed_by_one_attempt_at_a_time(world: World) -> None:
    blocked = world.scoped.block("one", "refused", "HTTP 401", TABLE, NOW)
    assert world.check("one", "two") == NotAdmitted(blocked, blocked.last_block)
    assert world.check("two") == ()
    assert world.check("one", now=NOW + 300) == (blocked,)
    blocked.in_flight += 1
    assert world.check("one", now=NOW + 300) == NotAdmitted(blocked, None)
    blocked.in_flight -= 1
    assert world.scoped.block("one", "refused", "HTTP 401", TABLE, NOW + 300) is blocked
    assert world.check("one", now=NOW + 599) == NotAdmitted(blocked, blocked.last_block)
    world.table.forget(blocked)
    assert world.check("one") == ()


def test_a_url_that_is_gone_is_probed_on_request(world: World) -> None:
    blocked = world.scoped.block("one", "gone", "HTTP 410", TABLE, NOW)
    assert world.table.blocked(NOW + 1e6) == {"one"}
    blocked.start_probing(NOW + 5)
    assert (world.check("one", now=NOW + 5), world.table.blocked(NOW + 5)) == ((blocked,), set())
    assert world.table.claim_request(NOW + 5).capacity == {"one": 1}
    world.scoped.block("one", "gone", "HTTP 410 again", TABLE, NOW + 6)
    assert world.check("one", now=NOW + 1e6) == NotAdmitted(blocked, blocked.last_block)
    assert (blocked.last_block.reason, blocked.last_block.until) == ("HTTP 410 again", None)


def forwarded(**params: object) -> Scope:
    return ForwardWebhook().scope(ForwardWebhook.Params(**params))


def test_the_credential_of_forward_webhook() -> None:
    url = "https://hooks.example/a"
    plain = forwarded(url=url, headers={"X-Run": "1", "Accept": "x"}, query={"run": "1"})
    assert (plain.url, plain.credential, plain.service) == (url, "", "")
    first = forwarded(url=url, headers={"Authorization": "one", "X-Run": "1"})
    assert first.credential == forwarded(url=url + "/b", headers={"authorization": "one", "X-Run": "2"}).credential
    others = [
        {"headers": {"Authorization": "two"}},
        {"headers": {"X-Api-Key": "one"}},
        {"query": {"token": "one"}},
        {"url": url + "?secret=one"},
        {"url": "https://user:one@hooks.example/a"},
        {"sign_with": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    ]
    found = {forwarded(**{"url": url, **params}).credential for params in others}
    assert len(found) == 6
    assert "" not in found
    assert first.credential not in found
    assert "one" not in repr(first)


def test_slacks_token_is_one_for_all_channels() -> None:
    params = PostToSlack.Params(channel="#a", text="t")
    assert PostToSlack().scope(params) == Scope("", "token", "slack")
    assert PostToSlack().scope(PostToSlack.Params(webhook_url="https://hooks.slack.com/x", text="t")) == Scope()
