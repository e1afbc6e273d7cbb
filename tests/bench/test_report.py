"""What the table says, and which rows are missed."""

from pathlib import Path

from bench.measure import Sample
from bench.plan import IDLE, NOW, ROWS, engines, groups
from bench.processes import ROOT
from bench.report import Results, as_json, filesystem, table, warnings

ROW = {row.key: row for row in ROWS}


def sample(rate, cpu=100.0, **changes):
    given = {"peak_rss": 50_000_000, "generator": 0.2, "sink": 0.1, "events": 10, "unexpected": 0, "missing": 0}
    return Sample(rate=rate, cpu=cpu, **{**given, **changes})


def forwarding(ours, before=()):
    parties = {"hand-written script": [sample(1000), sample(2000)], "engine, one forward": ours}
    return Results({"forward 2 KB": {**parties, **({"before, one forward": before} if before else {})}})


def test_a_ratio_below_its_bound_is_missed():
    bound = ROW["forward"].bound.value
    good = forwarding([sample(1000 * bound), sample(2000 * bound)])
    assert good.missed() == []
    bad = forwarding([sample(999 * bound), sample(1999 * bound)])
    assert bad.missed() == [ROW["forward"]]
    assert "MISSED" in table(bad)
    assert "MISSED" not in table(good)


def test_latency_above_its_bound_is_missed():
    assert Results(pairs={"hanging": {NOW: [(3.0, 1.0)]}}).missed() == [ROW["hanging"]]
    assert Results(pairs={"hanging": {NOW: [(1.1, 1.0)]}}).missed() == []


def test_a_row_that_failed_is_missed_and_says_why():
    results = Results(pairs={"hanging": {}}, failures={"hanging": {NOW: "nothing arrived"}})
    assert results.missed() == [ROW["hanging"]]
    assert "nothing arrived" in table(results)


def test_what_is_not_installed_is_no_miss():
    results = forwarding([sample(1000), sample(1000)])
    line = next(line for line in table(results).splitlines() if line.startswith(ROW["forward-fastapi"].title))
    assert line.split()[-2:] == ["not", "installed"]
    assert results.missed() == []


def test_before_and_after_in_one_table():
    results = forwarding([sample(600, 50.0), sample(900, 60.0)], [sample(400, 100.0), sample(450, 100.0)])
    lines = [line.split() for line in table(results).splitlines()]
    assert ["before", "425", "1,500", "events/s", "0.312", "0.225", "…", "0.4"] in lines
    assert ["now", "/", "before", "1.75", "1.5", "…", "2"] in lines
    assert ["now", "/", "before,", "CPU", "per", "event", "0.55", "0.5", "…", "0.6"] in lines
    row = as_json(results, {})["rows"][0]
    assert row["now/before"] == {"median": 1.75, "low": 1.5, "high": 2.0}
    assert row["ratios"]["engine"] == {"median": 0.525, "low": 0.45, "high": 0.6}


def test_warnings_of_the_action():
    samples = {
        "bare handler": [sample(1), sample(1, generator=0.9)],
        IDLE: [sample(1, generator=0.95)],
        "engine, one forward": [sample(1, sink=0.85, unexpected=2), sample(1, missing=3, unexpected=1)],
    }
    found = warnings(Results({"g": samples}))
    assert found == [
        "warning: g, bare handler: the load generator took 90% of a core and may be the limit",
        "warning: g, engine, one forward: the sink took 85% of a core and may be the limit",
        "warning: g, engine, one forward: 3 requests got another answer than expected, or none",
        "warning: g, engine, one forward: 3 accepted events were not forwarded",
    ]


def test_the_file_system_that_holds_a_folder():
    mounts = "/dev/a / ext4 rw 0 0\ntmpfs /var tmpfs rw 0 0\n/dev/b /variable xfs rw 0 0\n"
    assert filesystem(Path("/var/tmp"), mounts) == "tmpfs"
    assert filesystem(Path("/variable"), mounts) == "xfs"
    assert filesystem(Path("/home"), mounts) == "ext4"


def test_every_row_names_parties_that_are_measured():
    optional = {"FastAPI handler", "Debian's webhook"}
    parties = {group.name: {party.name for party in group.parties} for group in groups(engines(None))}
    for row in (row for row in ROWS if row.group):
        names = {NOW + name if name.startswith(",") else name for name in (row.ours, row.theirs)}
        assert names - optional <= parties[row.group]


def test_another_engine_is_measured_beside(tmp_path):
    found = [party for group in groups(engines(tmp_path)) for party in group.parties if party.name.startswith("before")]
    assert len(found) == 7
    assert {party.checkout for party in found} == {tmp_path}
    assert {party.checkout for group in groups(engines(None)) for party in group.parties} == {ROOT}
