"""The file with variables beside the configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from engine.config import load_config, read_config
from engine.config.variables import MASK
from engine.core.env_file import EnvFile, exposed, read_env_file
from engine.core.errors import ConfigError
from engine.rules.lint.configuration import warn_of_env_file
from engine.rules.reload import Loader

CONFIG = (
    'secrets: ["${HOOK_SECRET}"]\nvars: {team: "${TEAM:-none}"}\nroutes:\n  alert: {actions: [{log: {message: hi}}]}\n'
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG)
    return file


def written(path: Path, text: str, **how) -> EnvFile:
    (path.parent / ".env").write_text(text, **how)
    return EnvFile.beside(path)


def test_it_is_read_beside_the_configuration_and_its_values_are_masked(path: Path) -> None:
    file = written(path, "# the secret\nexport HOOK_SECRET='s3cret value'\nTEAM=red # a colour\n")
    config = load_config(path, environ={}, env_file=file)
    assert config.secrets == ("s3cret value",)
    assert config.vars == {"team": "red"}
    assert config.masked == {"s3cret value"}
    assert config.shown["secrets"] == [MASK]
    assert config.env_file == file.path


@pytest.mark.parametrize("value", ["from the environment", ""])
def test_the_environment_wins_also_with_an_empty_value(path: Path, value: str) -> None:
    file = written(path, "HOOK_SECRET=s3cret-value\nTEAM=red\n")
    assert load_config(path, environ={"TEAM": value}, env_file=file).vars == {"team": value or "none"}


def test_a_missing_one_is_none_unless_it_was_named(path: Path) -> None:
    assert load_config(path, environ={"HOOK_SECRET": "x" * 9}, env_file=EnvFile.beside(path)).env_file is None
    (path.parent / ".env").mkdir()  # as virtual environments are called, too
    assert load_config(path, environ={"HOOK_SECRET": "x" * 9}, env_file=EnvFile.beside(path)).env_file is None
    named = EnvFile(path.parent / "prod.env")
    with pytest.raises(ConfigError) as refused:
        load_config(path, environ={}, env_file=named)
    [problem] = refused.value.problems  # and not that the variables are not set
    assert "cannot read the variables in" in problem.message
    assert str(named.path) in problem.message
    assert "--no-env-file" in problem.hint


def test_nothing_in_it_is_expanded(path: Path) -> None:
    file = written(path, 'A=a\nHOOK_SECRET="${A}-$A-`id`-x"\nTEAM=${A}\n')
    config = load_config(path, environ={"A": "other"}, env_file=file)
    assert config.secrets == ("${A}-$A-`id`-x",)
    assert config.vars == {"team": "${A}"}


@pytest.mark.parametrize("name", ["ENGINE_ADMIN_TOKEN", "ENGINE_STORE_KEY", "ENGINE_WHATEVER"])
def test_the_settings_of_the_process_are_refused(path: Path, name: str) -> None:
    file = written(path, f"HOOK_SECRET=s3cret-value\n\n{name}=hush\n")
    with pytest.raises(ConfigError) as refused:
        load_config(path, environ={}, env_file=file)
    [problem] = refused.value.problems
    assert (problem.file, problem.line) == (str(file.path), 3)
    assert name in problem.message
    assert "where the engine is started" in problem.hint
    assert "hush" not in str(problem)


@pytest.mark.parametrize("line", ["-----BEGIN KEY-----", "just words", "PIECE", "A='never closed", 'A="never closed'])
def test_a_line_that_is_no_variable_is_refused_and_not_quoted(path: Path, line: str) -> None:
    """It may be a piece of a secret, whose line breaks were not quoted."""
    file = written(path, f"HOOK_SECRET=s3cret-value\n{line}\n")
    with pytest.raises(ConfigError) as refused:
        load_config(path, environ={}, env_file=file)
    assert (refused.value.problems[0].file, refused.value.problems[0].line) == (str(file.path), 2)
    assert not any(word in str(refused.value) for word in ("KEY-----", "words", "PIECE", "never closed"))


def test_one_that_cannot_be_taken_says_why(path: Path) -> None:
    for content, why in ((b"\xff\xfe", "UTF-8"), (b"A=" + b"x" * (65 << 10), "larger than")):
        (path.parent / ".env").write_bytes(content)
        [problem] = read_config(path, environ={}, env_file=EnvFile.beside(path)).source.problems
        assert why in problem.message
    pipe = path.parent / "pipe"
    os.mkfifo(pipe)
    assert "not a file" in read_env_file(EnvFile(pipe), "c.yaml").problems[0].message


@pytest.mark.parametrize("kind", ["pipe", "link to nothing"])
def test_what_is_called_so_and_is_neither_a_file_nor_a_directory_is_refused(path: Path, kind: str) -> None:
    file = EnvFile.beside(path)
    if kind == "pipe":
        os.mkfifo(file.path)
    else:
        file.path.symlink_to(path.parent / "nothing")
    config = read_config(path, environ={}, env_file=file, stand_ins=True)
    [problem] = config.source.problems
    assert f"cannot read the variables in {file.path}: " in problem.message
    assert "--no-env-file" in problem.hint


@pytest.mark.parametrize("text", ["\udcff", "just words\n", "ENGINE_DATA=x\n", "A=1\nA=2\n"])
def test_what_is_wrong_with_it_brings_no_warnings_of_variables_that_it_may_have(path: Path, text: str) -> None:
    file = written(path, text, errors="surrogateescape")
    file.path.chmod(0o600)
    config = read_config(path, environ={}, env_file=file, stand_ins=True)
    assert len(config.source.problems) == 1
    assert warn_of_env_file(config) == []


def test_a_name_with_two_values_is_refused_and_one_that_is_repeated_is_not(path: Path) -> None:
    file = written(path, "HOOK_SECRET=s3cret-one\nTEAM=red\n\n# later\nexport HOOK_SECRET='s3cret-two'\nTEAM=red\n")
    [problem] = read_config(path, environ={}, env_file=file).source.problems
    assert (problem.file, problem.line) == (str(file.path), 5)
    assert problem.message == "HOOK_SECRET is set to another value in line 1"
    assert "s3cret" not in str(problem)


def test_files_of_windows_editors_are_read(path: Path) -> None:
    (path.parent / ".env").write_bytes(b'\xef\xbb\xbfHOOK_SECRET=s3cret-value\r\nexport TEAM="blue green"\r\n')
    config = load_config(path, environ={}, env_file=EnvFile.beside(path))
    assert (config.secrets, config.vars) == (("s3cret-value",), {"team": "blue green"})


def test_the_command_that_is_advised_names_a_file_with_blanks_in_its_path(tmp_path: Path) -> None:
    file = tmp_path / "my rules" / ".env"
    file.parent.mkdir()
    file.write_text("A=b\n")
    file.chmod(0o644)
    _, advice = exposed(file)
    subprocess.run(["sh", "-c", advice.removeprefix("run: ")], check=True)
    assert exposed(file) is None
    assert exposed(file.parent) is None  # no file


@pytest.mark.skipif(os.name == "nt", reason="no modes")
@pytest.mark.parametrize(
    ("mode", "own", "told"),
    [
        (0o600, True, ""),
        (0o644, True, "chmod 600"),
        (0o640, True, "chmod 600"),
        (0o640, False, ""),
        (0o604, False, "o-rwx"),
    ],
)
def test_that_others_can_read_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, own: bool, told: str
) -> None:
    file = tmp_path / ".env"
    file.write_text("A=b\n")
    file.chmod(mode)
    if not own:
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    words = exposed(file)
    assert (words is not None) == bool(told)
    if words:
        assert f"{mode:04o}" in words[0]
        assert told in words[1]


def test_it_is_looked_at_with_the_configuration_also_before_it_exists(path: Path) -> None:
    loader = Loader(path, {"HOOK_SECRET": "s3cret-value"}, env_file=EnvFile.beside(path))
    assert loader.load().config.vars == {"team": "none"}
    before = loader.look()
    assert path.parent in loader.folders()
    written(path, "TEAM=red\n")
    assert loader.look() != before
    assert loader.load().config.vars == {"team": "red"}
    assert loader.seen == loader.look()
