"""Command lines of dataclasses: what is taken, and the one line when it cannot be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from trlx.utils.cli import parse_config


@dataclass
class Section:
    """A section.

    Args:
        seed: a number.
        rate: another.
        tags: words.
    """

    seed: int = 1
    rate: float = 0.5
    tags: list[str] = field(default_factory=list)


@dataclass
class Options:
    """Options.

    Args:
        name: text.
        limit: a number or none.
        kind: one of two.
        overwrite: a switch.
        extra: anything.
        train: a section.
    """

    name: str = "x"
    limit: int | None = None
    kind: Literal["a", "b"] = "a"
    overwrite: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    train: Section = field(default_factory=Section)


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def parse(*argv: str) -> str:
        with pytest.raises(SystemExit) as ended:
            parse_config(Options, "Test.", list(argv))
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1, said
        return said.removeprefix("error: ").rstrip("\n")

    return parse


def test_later_options_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: from a\ntrain: {seed: 2, rate: 1e-3}\nextra: {k: 1}\n")
    (tmp_path / "b.yaml").write_text("train:\n  seed: 3\n")
    given = ["--limit", "7", "--config", str(tmp_path / "a.yaml"), f"--config={tmp_path / 'b.yaml'}", "--overwrite"]
    expected = Options("from a", 7, "a", True, {"k": 1}, Section(3, 0.001, ["t"]))
    assert parse_config(Options, "Test.", [*given, "--train.tags", "[t]"]) == expected


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--nam", "y"], "unknown option --nam; did you mean 'name'?"),
        (["--seed", "1"], "unknown option --seed; did you mean 'train.seed'?"),
        (["--train.sed=1"], "unknown option --train.sed; did you mean 'train.seed'?"),
        (["--train.seed", "abc"], "--train.seed must be a whole number, not 'abc'"),
        (["--train.seed", "1.5"], "--train.seed must be a whole number, not '1.5'"),
        (["--train.seed", "null"], "--train.seed must be a whole number, not 'null'"),
        (["--train.rate", "fast"], "--train.rate must be a number, not 'fast'"),
        (["--train.rate", ".nan"], "'train.rate' must be a number, not nan"),
        (["--train.tags", "a"], "--train.tags must be a list, not 'a'"),
        (["--limit", "abc"], "--limit must be a whole number or null, not 'abc'"),
        (["--kind", "c"], "--kind must be one of a, b, not 'c'"),
        (["--overwrite", "maybe"], "--overwrite must be true or false, not 'maybe'"),
        (["--extra", "[1"], "--extra must be a section, not '[1'"),
        (["--train", "null"], "--train is a section: give its keys, as in --train.NAME VALUE"),
        (["--train", "{sed: 1}"], "unknown key 'train.sed'; did you mean 'train.seed'?"),
        (["--name.part", "1"], "unknown option --name.part; did you mean 'name'?"),
        (["--name"], "--name needs a value: text"),
        (["--config"], "--config needs a value: a file's name"),
        (
            ["--config", "absent.yaml"],
            "absent.yaml: no such file: check the name; paths are relative to the current folder",
        ),
        (["stray"], "'stray' belongs to no option: options are written --name value; --help lists them"),
        (["-x"], "'-x' belongs to no option: options are written --name value; --help lists them"),
    ],
)
def test_mistakes_on_the_command_line(refusal: Callable[..., str], argv: list[str], line: str) -> None:
    assert refusal(*argv) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: y\nnam: z\n", "line 2: unknown key 'nam'; did you mean 'name'?"),
        ("seed: 1\n", "line 1: unknown key 'seed'; did you mean 'train.seed'?"),
        ("train:\n  sed: 1\n", "line 2: unknown key 'train.sed'; did you mean 'seed'?"),
        ("train: 5\n", "line 1: 'train' must be a section of keys, not 5"),
        ("train:\n", "line 1: 'train' must be a section of keys, not None"),
        ("train:\n  seed: null\n", "line 2: 'train.seed' must be a whole number, not None"),
        ("train:\n  rate: .nan\n", "line 2: 'train.rate' must be a number, not nan"),
        ("limit: many\n", "line 1: 'limit' must be a whole number, not 'many'"),
        ("kind: c\n", "line 1: 'kind' must be one of a, b, not 'c'"),
        ("name: yes\n", "line 1: 'name' must be text, not True"),
        ("extra: {1: 2}\n", "line 1: the key 1 is no text: put it in quotes"),
        ("config: other.yaml\n", "line 1: unknown key 'config'; known: extra, kind, limit, name, overwrite, train"),
    ],
)
def test_mistakes_in_a_file(refusal: Callable[..., str], tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert refusal("--config", str(path)) == f"{path}, {line}"
    assert refusal(f"--config={path}", "--name", "y") == f"{path}, {line}"


def test_dashes_do_for_underscores() -> None:
    @dataclass
    class Dashed:
        """Options.

        Args:
            bad_rows: text.
            accept_all: a switch.
            train: a section.
        """

        bad_rows: str = "stop"
        accept_all: bool = False
        train: Section = field(default_factory=Section)

    parsed = parse_config(Dashed, "Test.", ["--accept-all", "--bad-rows", "x-y", "--train.seed=3"])
    assert (parsed.accept_all, parsed.bad_rows, parsed.train.seed) == (True, "x-y", 3)
    assert parse_config(Dashed, "Test.", ["--bad-rows=a-b", "--accept-all=false"]) == Dashed("a-b")


def test_a_printed_configuration_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass
    class Shown:
        """Options.

        Args:
            name: text.
            train: a section.
        """

        name: str = "x"
        train: Section = field(default_factory=Section)

    with pytest.raises(SystemExit) as end:
        parse_config(Shown, "Test.", ["--local_rank=1", "--train.seed=3", "--name=y", "--print_config"])
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    assert end.value.code == 0
    read = parse_config(Shown, "Test.", ["--config", str(path)])
    assert (read.name, read.train.seed) == ("y", 3)
