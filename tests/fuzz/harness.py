"""``make fuzz``: the entries of ``entries.py`` under atheris, guided by what code their inputs reach.

``python tests/fuzz/harness.py [SECONDS] [ENTRY …]``. Where atheris does not install, it says so and succeeds.
What is found is written to ``crash-…`` in the current folder: mend it, and keep the input in ``found/``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: An input that takes longer, in seconds, hangs.
HANGS = 20
#: What inputs are pieced together from, beside what is found.
WORDS = """{{ }} {% %} run. feedback vars. default omit urlencode loop range( $.runs[*]. $.. [?( =~ `len` filters:
actions: routes: secrets: none network: path: expr: matches: any: not: &a *a <<: !! ${NAME} ${file: \\ud800 \\u0000
1e999 NaN *. ::ffff:"""


def main() -> int:
    """Fuzz each entry in a process of its own: a crash in one must not end the others."""
    seconds, names = int(next(iter(sys.argv[1:]), "60")), sys.argv[2:]
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is not installed here, and does not install everywhere: pip install atheris")
        return 0
    sys.path.insert(0, str(HERE))
    from entries import ENTRIES

    chosen = names or list(ENTRIES)
    failed = [name for name in chosen if not _fuzz(name, max(seconds // len(chosen), 5))]
    print(f"fuzzed {', '.join(chosen)}: {'all well' if not failed else 'found something in ' + ', '.join(failed)}")
    return 1 if failed else 0


def _fuzz(name: str, seconds: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(_seeds(name)):
            (corpus / str(number)).write_bytes(seed)
        words.write_text(
            "\n".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in WORDS.split())
        )
        options = [
            f"-max_total_time={seconds}",
            f"-timeout={HANGS}",
            f"-dict={words}",
            "-max_len=4096",
            "-rss_limit_mb=3000",
        ]
        command = [sys.executable, __file__, "--one", name, str(corpus), *options]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        print(
            f"{name}: "
            + next((line for line in reversed(ran.stderr.splitlines()) if "exec/s" in line or "DONE" in line), "")
        )
        if ran.returncode:
            print(ran.stdout[-3000:], ran.stderr[-3000:], sep="\n")
        return ran.returncode == 0


def _seeds(name: str) -> list[bytes]:
    from engine.testing import payloads

    kept = [file.read_bytes() for file in sorted((HERE / "found").glob(f"{name}-*"))]
    if name == "config":
        goods = sorted((ROOT / "tests").glob("config_*/**/*.yaml"))
        return [*kept, (ROOT / "config.example.yaml").read_bytes(), *(good.read_bytes() for good in goods)]
    if name == "event":
        made = (payloads.seed, payloads.complete, payloads.alert, payloads.threads, payloads.context_hub_commit)
        bodies = [make() for make in made]
        return [*kept, *(json.dumps(one).encode() for one in bodies)]
    if name == "conditions":
        written = [
            {"path": "$.runs[*].status", "eq": "x"},
            {"any": [{"expr": "run.x > 1"}, {"not": {"path": "$.a", "exists": True}}]},
        ]
        return [*kept, json.dumps([written, {"runs": [{"status": "x"}]}]).encode()]
    samples = {
        "template": [b"{{ run.name | default('x') }}{% for x in runs %}{{ x.id }}{% endfor %}", b"{{ run.inputs }}"],
        "expression": [b"run.latency > 10 or feedback.x.score < 0.5", b"run.tags | length in [1, 2]"],
        "path": [b"$.runs[*].extra.metadata['a b'][0:2]", b"$..runs[?(@.status =~ 'x' & @.cost > 1)].`len`"],
        "network": [b"10.0.0.0/8", b"*.svc.cluster.local", b"minio.internal"],
    }
    return [*kept, *samples.get(name, [b"\0abc"])]


def one() -> None:
    """Be the process that fuzzes one entry."""
    import atheris

    sys.path.insert(0, str(HERE))
    name = sys.argv.pop(2)
    sys.argv.pop(1)
    with atheris.instrument_imports(include=["engine", "actions", "entries"]):
        from entries import ENTRIES
    atheris.Setup(sys.argv, ENTRIES[name])
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one()
    else:
        raise SystemExit(main())
