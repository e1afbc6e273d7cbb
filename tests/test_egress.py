"""The session that outgoing requests share."""

from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver

from engine.egress import open_session, user_agent


async def test_it_names_itself_keeps_no_cookies_and_reads_no_proxy(sink, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    sink.faults.add(status=200, headers={"Set-Cookie": "a=b"})
    async with open_session() as session:
        for _ in range(2):
            async with session.get(sink.url) as response:
                assert response.status == 200
    assert [request.headers["User-Agent"] for request in sink.received] == [user_agent()] * 2
    assert "Cookie" not in sink.received[1].headers


def test_the_user_agent_tells_the_version():
    name, _, number = user_agent().partition("/")
    assert name == "langsmith-rules-engine"
    assert number[0].isdigit()


async def test_it_has_no_total_timeout_of_its_own():
    async with open_session() as session:
        assert session.timeout.total is None


async def test_a_resolver_decides_where_names_lead(sink):
    class ToLoopback(AbstractResolver):
        async def resolve(self, host, port=0, family=socket.AF_INET):
            if host != "good.example":
                raise OSError(f"{host} is not allowed")
            return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

        async def close(self):
            """Nothing is held."""

    port = sink.origin.rpartition(":")[2]
    async with open_session(resolver=ToLoopback()) as session:
        async with session.get(f"http://good.example:{port}/hook") as response:
            assert response.status == 200
        with pytest.raises(OSError, match=r"bad\.example"):
            await session.get(f"http://bad.example:{port}/hook")
