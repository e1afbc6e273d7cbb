"""The session that outgoing requests share, and the guard of where it may connect."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver
from hypothesis import given
from hypothesis import strategies as st

from engine.action.failures import classify
from engine.clients import guard
from engine.clients.addresses import is_metadata, parse_address, why_not_public
from engine.clients.guard import AddressBlocked, OwnListeners, trusting
from engine.clients.network import Network, Origin, parse_network, plain_host
from engine.clients.session import open_session, user_agent

LOOPBACK = parse_network(["127.0.0.0/8", "::1"])


class Names(AbstractResolver):
    """Answers with what a test says, as a hostile name server would: each look-up may answer something else."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked = []

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.append(host)
        known = self.answers[host.rstrip(".")]
        addresses = known.pop(0) if isinstance(known[0], list) else known
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in addresses
        ]

    async def close(self):
        """Nothing is held."""


def port_of(sink):
    return sink.origin.rpartition(":")[2]


def origin(host, sink):
    return frozenset({Origin(host, int(port_of(sink)))})


# --- the session -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"])
async def test_it_names_itself_keeps_no_cookies_and_reads_no_proxy(sink, monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    sink.faults.add(status=200, headers={"Set-Cookie": "a=b"})
    async with open_session(lambda: LOOPBACK) as session:
        for _ in range(2):
            async with session.get(sink.url) as response:
                assert response.status == 200
    assert [request.headers["User-Agent"] for request in sink.received] == [user_agent()] * 2
    assert "Cookie" not in sink.received[1].headers


def test_the_user_agent_has_the_version():
    name, _, number = user_agent().partition("/")
    assert name == "langsmith-rules-engine"
    assert number[0].isdigit()


async def test_it_has_no_total_timeout_of_its_own():
    async with open_session() as session:
        assert session.timeout.total is None


async def test_a_healthy_destination_does_not_wait_for_the_connections_of_slow_ones(sink):
    held = []

    async def hang(_reader, writer):
        held.append(writer)

    slow = await asyncio.start_server(hang, "127.0.0.1", 0, backlog=512)
    url = f"http://127.0.0.1:{slow.sockets[0].getsockname()[1]}/"
    async with open_session(lambda: LOOPBACK) as session:
        waiting = [asyncio.create_task(session.get(url)) for _ in range(300)]
        async with asyncio.timeout(10):
            while len(held) < 300:
                await asyncio.sleep(0.01)
            async with session.get(sink.url) as response:
                assert response.status == 200
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    for writer in held:
        writer.close()
    slow.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_it_follows_no_redirect_even_if_asked_to(sink, status, method):
    from engine.testing import WebhookSink

    async with WebhookSink() as elsewhere, open_session(lambda: LOOPBACK) as session:
        sink.faults.add(status=status, headers={"Location": elsewhere.url})
        async with session.request(method, sink.url, allow_redirects=True) as response:
            assert response.status == status
        assert elsewhere.received == []


# --- what an address is ----------------------------------------------------------------------------------------------

REFUSED = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "10.1.2.3": "private",
    "100.64.0.1": "CGNAT",
    "100.127.255.255": "CGNAT",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.1.1": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.1": "reserved",
    "192.0.2.1": "documentation",
    "192.88.99.1": "reserved",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarks",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::7f00:1": "loopback",  # compatible
    "::ffff:127.0.0.1": "loopback",  # mapped
    "::ffff:10.0.0.1": "private",
    "::ffff:0:10.0.0.1": "private",  # translated
    "64:ff9b::10.0.0.1": "private",  # NAT64
    "64:ff9b:1::a00:1": "private",  # NAT64 of one's own
    "2002:a00:1::": "private",  # 6to4
    "2002:7f00:1::1": "loopback",
    "2001:0:a00:1:0:0:0:0": "private",  # Teredo, by its server
    "2001:0:808:808:0:0:80ff:fffe": "loopback",  # Teredo, by its client: every bit turned
    "2001:2::1": "benchmarks",
    "2001:10::1": "reserved",
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "100::1": "reserved",
    "5f00::1": "reserved",
    "4000::1": "reserved",
    "fc00::1": "private",
    "fdff::1": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "zone",
    "2606:4700::1%eth0": "zone",
    "fec0::1": "private",
    "ff02::1": "multicast",
}
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1",
    "223.255.255.255", "2606:4700:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_an_address_that_is_not_public_is_refused_with_the_reason(text):
    assert REFUSED[text] in why_not_public(parse_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_public(text):
    assert why_not_public(parse_address(text)) == ""


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_nothing_passes_that_pythons_own_table_refuses(address):
    """Ours is the stricter one; forms that hold an IPv4 address are judged by that, which Python does not do."""
    if not why_not_public(address) and getattr(address, "ipv4_mapped", None) is None:
        holds_another = address.version == 6 and (address.sixtofour or address.teredo or str(address)[:8] == "64:ff9b:")
        assert holds_another or (address.is_global and not address.is_multicast)


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "::1:0:0"]))
def test_an_address_within_another_is_judged_by_itself(address, prefix):
    base = int(parse_address(prefix))
    outer = type(parse_address("::1"))(base + int(address))
    if prefix != "::1:0:0":
        assert why_not_public(outer) == why_not_public(address)
        assert is_metadata(outer) == is_metadata(address)


# --- where requests may go -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",  # full-width digits
        "127\u30020\u30020\u30021",  # full stops of another script
        "user:pass@127.0.0.1",
        "example.com@127.0.0.1",
        "example.com:80@127.0.0.1",
        "[::1%25lo]",
        "0.0.0.0",
        "[::]",
    ],
)
async def test_no_spelling_leads_to_this_machine(sink, host):
    """Every one of these reaches loopback with some client or other."""
    async with open_session() as session:
        with pytest.raises(AddressBlocked) as caught:
            await session.get(f"http://{host}:{port_of(sink)}/")
    failure = classify(caught.value)
    assert not failure.retry
    assert sink.received == []


async def test_the_reason_names_the_address_and_what_would_permit_it(sink):
    async with open_session(resolver=Names(minio_internal=["10.0.0.9"])) as session:
        with pytest.raises(AddressBlocked) as caught:
            await session.get("http://minio.internal/")
        assert str(caught.value) == (
            "the address 10.0.0.9 of minio.internal is private, and event data goes only to public addresses; "
            "to permit it, write at the top level: network: {allow: [minio.internal]}"
        )
        with pytest.raises(AddressBlocked, match=r"the address ::1 is loopback.*allow: \[\"::1\"\]"):
            await session.get("http://[::1]/")


@pytest.mark.parametrize("entry", ["good.example", "*.example", "127.0.0.0/8", "127.0.0.1", "GOOD.example."])
async def test_what_the_network_block_allows_is_reached(sink, entry):
    async with (
        open_session(lambda: parse_network([entry]), resolver=Names(good_example=["127.0.0.1"])) as session,
        session.get(f"http://good.example:{port_of(sink)}/") as response,
    ):
        assert response.status == 200


async def test_only_origins_of_the_author_are_reached(sink):
    names = Names(mine_example=["127.0.0.1"], other_example=["127.0.0.1"])
    async with open_session(resolver=names) as session:
        with trusting(origin("mine.example", sink)):
            for host in ("mine.example", "MINE.example", "mine.example."):
                async with session.get(f"http://{host}:{port_of(sink)}/") as response:
                    assert response.status == 200
            with pytest.raises(AddressBlocked):
                await session.get(f"http://other.example:{port_of(sink)}/")
        with pytest.raises(AddressBlocked):
            await session.get(f"http://mine.example:{port_of(sink)}/")


async def test_a_connection_for_trusted_origins_serves_no_others(sink):
    """Keep-alive: the same name and port, and no look-up in between."""
    names = Names(mine_example=["127.0.0.1"])
    async with open_session(resolver=names) as session:
        with trusting(origin("mine.example", sink)):
            async with session.get(f"http://mine.example:{port_of(sink)}/") as response:
                await response.read()
        with pytest.raises(AddressBlocked):
            await session.get(f"http://mine.example:{port_of(sink)}/")
        assert len(sink.received) == len(names.asked) == 1


async def test_another_port_of_the_authors_host_is_anothers(sink):
    from engine.testing import WebhookSink

    async with WebhookSink() as elsewhere, open_session() as session:
        with trusting(origin("127.0.0.1", sink)):
            async with session.get(sink.url) as response:
                assert response.status == 200
            with pytest.raises(AddressBlocked, match=r"127\.0\.0\.1 is loopback.*allow: \[127\.0\.0\.1\]"):
                await session.get(elsewhere.url)
        assert elsewhere.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
async def test_no_event_leads_to_the_engines_own_door_whatever_is_allowed(sink, host, bound):
    own_listeners = OwnListeners()
    own_listeners.add([(bound, int(port_of(sink)))])
    everything = parse_network(["0.0.0.0/0", "::/0", "localhost"])
    async with open_session(lambda: everything, own_listeners) as session:
        with pytest.raises(AddressBlocked, match="own admin listener, which events must not reach"):
            await session.get(f"http://{host}:{port_of(sink)}/")
    assert sink.received == []


async def test_the_author_may_lead_to_it_and_events_to_other_ports(sink):
    from engine.testing import WebhookSink

    own_listeners = OwnListeners()
    own_listeners.add([("127.0.0.1", int(port_of(sink))), ("::1", int(port_of(sink)), 0, 0)])
    async with WebhookSink() as elsewhere, open_session(lambda: LOOPBACK, own_listeners) as session:
        async with session.get(elsewhere.url) as response:
            assert response.status == 200
        with trusting(origin("127.0.0.1", sink)):
            async with session.get(sink.url) as response:
                assert response.status == 200


def test_a_door_to_everywhere_is_at_the_addresses_of_this_machine_alone():
    own_listeners = OwnListeners()
    own_listeners.add([("0.0.0.0", 8181), ("::1", 8182, 0, 0)])
    at = {"127.0.0.1": True, "127.9.9.9": True, "::ffff:127.0.0.1": True, "0.0.0.0": True, "192.0.2.1": False}
    assert {text: own_listeners.include(parse_address(text), 8181) for text in at} == at
    assert not own_listeners.include(parse_address("127.0.0.1"), 8182)
    assert own_listeners.include(parse_address("::1"), 8182)


async def test_a_permission_withdrawn_counts_for_connections_that_are_there(sink):
    permitted = [parse_network(["mine.example"])]
    async with open_session(lambda: permitted[0], resolver=Names(mine_example=["127.0.0.1"])) as session:
        async with session.get(f"http://mine.example:{port_of(sink)}/") as response:
            await response.read()
        permitted[0] = Network()
        with pytest.raises(AddressBlocked):
            await session.get(f"http://mine.example:{port_of(sink)}/")


async def test_a_listener_opened_later_counts_for_connections_that_are_there(sink):
    own_listeners = OwnListeners()
    async with open_session(lambda: LOOPBACK, own_listeners) as session:
        async with session.get(sink.url) as response:
            await response.read()
        own_listeners.add([("127.0.0.1", int(port_of(sink)))])
        with pytest.raises(AddressBlocked, match="own admin listener"):
            await session.get(sink.url)


async def test_a_connection_is_checked_once_while_nothing_changes(sink, monkeypatch):
    checked: list[str] = []

    def refusal(host: str, *rest: Any) -> str:
        checked.append(host)
        return unwatched(host, *rest)

    unwatched = guard.refusal
    monkeypatch.setattr(guard, "refusal", refusal)
    async with open_session(lambda: LOOPBACK) as session:
        for count in (2, 2, 3):  # the address found, and the peer; then the same connection, then under other rules
            with trusting(origin("127.0.0.1", sink) if count == 3 else frozenset()):
                async with session.get(sink.url) as response:
                    await response.read()
            assert len(checked) == count


async def test_a_name_that_answers_something_else_the_second_time_gains_nothing(sink):
    """DNS rebinding: what was judged is what is connected to, so there is no second look-up to lie to."""
    names = Names(rebind_example=[["127.0.0.1"], ["127.0.0.1"]])
    async with open_session(resolver=names) as session:
        for _ in range(2):
            with pytest.raises(AddressBlocked):
                await session.get(f"http://rebind.example:{port_of(sink)}/")
    names = Names(rebind_example=[["93.184.216.34"], ["127.0.0.1"]])
    connected = []

    def record(info):
        connected.append(info[4][0])
        raise OSError(errno.ENETUNREACH, "no network here")

    async with open_session(resolver=names) as session:
        session.connector._socket_factory = record
        with pytest.raises(OSError, match="no network here"):
            await session.get(f"http://rebind.example:{port_of(sink)}/")
    assert (connected, names.asked, sink.received) == (["93.184.216.34"], ["rebind.example"], [])


async def test_of_several_addresses_only_the_good_ones_are_used(sink):
    names = Names(mixed_example=["10.0.0.1", "127.0.0.1", "192.168.0.1"])
    connected = []
    async with open_session(lambda: LOOPBACK, resolver=names) as session:
        session.connector._socket_factory = lambda info: connected.append(info[4][0]) or socket.socket(*info[:3])
        async with session.get(f"http://mixed.example:{port_of(sink)}/") as response:
            assert response.status == 200
    assert connected == ["127.0.0.1"]


METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "fd00:ec2::254%eth0",
]


@pytest.mark.parametrize("address", METADATA)
async def test_metadata_services_are_never_reached(address):
    url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
    everything = parse_network(["0.0.0.0/0", "::/0", "metadata.google.internal"])
    names = Names(metadata_google_internal=[address.partition("%")[0]])
    async with open_session(lambda: everything, resolver=names) as session:
        with trusting(frozenset({Origin("metadata.google.internal", 80), Origin(plain_host(address), 80)})):
            for target in (url, "http://metadata.google.internal/"):
                with pytest.raises(AddressBlocked, match="metadata service, which is never reached"):
                    await session.get(target)


async def test_what_is_no_host_at_all_is_refused_for_good():
    async with open_session() as session:
        for host in ("1.2.3.4.5", "999.1.1.1", "a\x00b", "a" * 300, "..", "a..b"):
            with pytest.raises((AddressBlocked, OSError)) as caught:
                await asyncio.wait_for(session.get(f"http://{host}/"), 20)
            assert classify(caught.value).expected, host


async def test_a_task_that_an_action_starts_is_trusted_as_it_is(sink):
    async with open_session() as session:

        async def ask():
            async with session.get(sink.url) as response:
                return response.status

        with trusting(origin("127.0.0.1", sink)):
            assert await asyncio.create_task(ask()) == 200
        with pytest.raises(AddressBlocked):
            await asyncio.create_task(ask())


# --- the network block -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("10.1.2.3/8", "did you mean 10.0.0.0/8"),
        ("10.0.0.0/33", "not a network"),
        ("300.0.0.1", "not a network"),
        ("http://minio.internal/x", "write its name alone, like minio.internal"),
        ("minio.internal:9000", "write it without a port"),
        ("minio.internal/x", "write its name alone, like minio.internal"),
        ("a.*.b", "replace the beginning of a name"),
        ("*", "replace the beginning of a name"),
        ("", "neither a host name nor a network"),
        ("a b", "neither a host name nor a network"),
    ],
)
def test_an_entry_that_cannot_be_meant_says_how_to_write_it(entry, words):
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        parse_network([entry])


def test_a_star_stands_for_names_below_and_not_for_the_name_itself():
    network = parse_network(["*.svc.cluster.local"])
    address = parse_address("10.0.0.1")
    assert network.permits("minio.svc.cluster.local", address)
    assert network.permits("a.b.svc.cluster.local", address)
    assert not network.permits("svc.cluster.local", address)
    assert not network.permits("evilsvc.cluster.local", address)


@given(st.text(max_size=40))
def test_any_text_is_an_entry_or_an_error_that_says_why(text):
    with contextlib.suppress(ValueError):
        parse_network([text])
