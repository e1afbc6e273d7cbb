"""What a 410 and a 401 stop: one URL, one credential, and how they are named."""

from __future__ import annotations

import hashlib
import random

import pytest

from actions.forward_webhook import ForwardWebhook
from actions.post_to_slack import PostToSlack
from engine.action.failures import Scope
from engine.core.masking import Masker
from engine.worker.destinations import Lane, Lanes, LimitTable, Shut
from engine.worker.destinations.stops import Stops

NOW = 1000.0
TABLE = LimitTable()
SECRET = "a-token-nobody-sees"
MASKER = Masker([SECRET, "https://hooks.example/secret-path-one", "https://hooks.example/secret-path-two"])


class World:
    """Stops beside one destination."""

    def __init__(self, key: str = "one") -> None:
        self.lanes = Lanes(random.Random(1))
        self.stops = Stops(self.lanes, lambda text: hashlib.sha256(f"{key}{text}".encode()).hexdigest())

    def lane(self, name: str = "https://hooks.example") -> Lane:
        return self.lanes.lane(name, name, TABLE, NOW)

    def gone(self, url: str) -> str:
        return self.stops.names(self.lane(), Scope(url), MASKER)[0]

    def refused(self, credential: str, service: str = "") -> str:
        return self.stops.names(self.lane(), Scope("", credential, service), MASKER)[1]

    def find(self, *names: str, now: float = NOW) -> Shut | tuple[Lane, ...]:
        return self.stops.find(names, now)


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
def test_of_others_it_shows_what_is_no_secret(world: World, url: str, start: str) -> None:
    name = world.gone(url)
    assert name.startswith(start)
    assert name.isprintable()
    assert len(name) < 200
    assert all(word not in name for word in (SECRET, "secret-path", "id=", "user"))
    assert name == World().gone(url), "it is the same after a restart"


def test_urls_are_told_apart_and_tokens_in_queries_leave_no_trace(world: World) -> None:
    urls = ["secret-path-one", "secret-path-two", "a?id=1", "a?id=2", "a"]
    assert len({world.gone(f"https://hooks.example/{url}") for url in urls}) == 5
    other = Masker([SECRET.upper()])
    named = world.stops.names(world.lane(), Scope(f"https://hooks.example/a?token={SECRET.upper()}"), other)[0]
    assert named == world.gone(f"https://hooks.example/a?token={SECRET}")


def test_the_name_of_a_credential_tells_nothing_to_those_who_guess(world: World) -> None:
    name = world.refused("password1")
    assert name.startswith("https://hooks.example (key ")
    assert name == world.refused("password1") != world.refused("password2")
    assert name == World().refused("password1") != World("another").refused("password1"), "the store has the key"
    assert world.refused("token", "slack").startswith("slack (key ")
    assert world.refused("") == "https://hooks.example"


def test_a_stop_is_found_out_about_by_one_at_a_time(world: World) -> None:
    stop = world.stops.stop("one", "refused", "HTTP 401", TABLE, NOW)
    assert world.find("one", "two") == Shut(stop, stop.last_block)
    assert world.find("two") == ()
    assert world.find("one", now=NOW + 300) == (stop,)
    stop.under_way += 1
    assert world.find("one", now=NOW + 300) == Shut(stop, None)
    stop.under_way -= 1
    assert world.stops.stop("one", "refused", "HTTP 401", TABLE, NOW + 300) is stop
    assert world.find("one", now=NOW + 599) == Shut(stop, stop.last_block)
    world.stops.forget("one")
    assert world.find("one") == ()


def test_a_url_that_is_gone_is_found_out_about_when_people_say_so(world: World) -> None:
    stop = world.stops.stop("one", "gone", "HTTP 410", TABLE, NOW)
    assert world.lanes.shut(NOW + 1e6) == {"one"}
    world.lanes.probe(stop, NOW + 5)
    assert (world.find("one", now=NOW + 5), world.lanes.shut(NOW + 5)) == ((stop,), set())
    assert world.lanes.ask(NOW + 5).rooms == {"one": 1}
    world.stops.stop("one", "gone", "HTTP 410 again", TABLE, NOW + 6)
    assert world.find("one", now=NOW + 1e6) == Shut(stop, stop.last_block)
    assert (stop.last_block.reason, stop.last_block.until) == ("HTTP 410 again", None)


def forwarded(**params: object) -> Scope:
    return ForwardWebhook().scope(ForwardWebhook.Params(**params))


def test_what_forward_webhook_sends_that_says_who_it_is() -> None:
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
