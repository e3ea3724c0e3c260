"""YAML files of settings: each mistake with its file and line, and nothing taken in silence."""

from pathlib import Path

import pytest

from trlx.utils.errors import BadKey, UserError
from trlx.utils.settings_file import MAX_BYTES
from trlx.utils.yaml_file import read_yaml


def file_of(folder: Path, content: str | bytes) -> Path:
    path = folder / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_values_and_lines(tmp_path: Path) -> None:
    text = "# top\na: 1\nb:\n  c: [x]\n  d: &one {e: 1.5}\nf: {<<: *one, g: 2020-01-01}\n"
    read = read_yaml(file_of(tmp_path, "\ufeff" + text))
    assert read.values == {"a": 1, "b": {"c": ["x"], "d": {"e": 1.5}}, "f": {"e": 1.5, "g": "2020-01-01"}}
    assert {key: read.lines[key] for key in ("a", "b", "b.c", "b.d", "b.d.e", "f.g")} == {
        "a": 2,
        "b": 3,
        "b.c": 4,
        "b.d": 5,
        "b.d.e": 5,
        "f.g": 6,
    }


def test_a_merged_key_may_be_given_again(tmp_path: Path) -> None:
    assert read_yaml(file_of(tmp_path, "a: &a {x: 1}\nb:\n  <<: *a\n  x: 2\n")).values["b"] == {"x": 2}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "c.yaml: is empty"),
        ("# only this\n", "c.yaml: is empty"),
        ("- 1\n- 2", "c.yaml: holds a list where `key: value` lines are needed"),
        ("hello", "c.yaml: holds just 'hello'"),
        ("a: 1\nb: [2\nc: 3\n", "c.yaml, line 3: expected ',' or ']'"),
        ("a: 1\nb:\n\t- 2\n", "c.yaml, line 3: found character '\\t' that cannot start any token: indent with spaces"),
        ("a: 1\n---\nb: 2\n", "c.yaml, line 2: expected a single document in the stream but found another document"),
        ("a: 1\nb: 2\na: 3\n", "c.yaml, line 3: the key 'a' is already on line 1: remove one of them"),
        ("s:\n  a: 1\n  a: 1\n", "c.yaml, line 3: the key 'a' is already on line 2"),
        ("a: 1\n2: 3\n", "c.yaml, line 2: the key 2 is no text: put it in quotes"),
        ("a: 1\nyes: 3\n", "c.yaml, line 2: the key yes is no text"),
        ("? [a, b]\n: 2\n", "c.yaml, line 1: the key a sequence is no text"),
        ("a: 1\nb: &x\n  c: *x\n", "c.yaml, line 3: *x holds itself"),
        ("a: *b\n", "c.yaml, line 1: found undefined alias"),
        ("a: !!python/object:os.system 1\n", "c.yaml, line 1: could not determine a constructor"),
        ("a: !!int abc\n", "c.yaml: not valid YAML (invalid literal"),
        ("a: " + "9" * 5000, "c.yaml: not valid YAML (Exceeds the limit"),
        ("a: " + "[" * 3000, "c.yaml: nested too deeply"),
        ("a: 1\nb: x\0y\n", "c.yaml, line 2: the character U+0000 is not allowed: remove it"),
        (b"a: 1\nb: \xe9\n", "c.yaml, line 2: not UTF-8 text: save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), "c.yaml, line 1: not UTF-8 text"),
        (b"#" * (MAX_BYTES + 1), "c.yaml: over 1 MiB, too large for a configuration"),
    ],
)
def test_refusals_name_file_and_line(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(UserError) as refused:
        read_yaml(file_of(tmp_path, content))
    assert str(refused.value).startswith(f"{tmp_path}/{words}") and "\n" not in str(refused.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder: name a YAML file"):
        read_yaml(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="no regular file"):
        read_yaml("/dev/null")
    for name, reason in (("a\0b", "null"), ("a" * 5000, "File name too long")):
        with pytest.raises(UserError, match=rf"cannot be read \(.*{reason}") as refused:
            read_yaml(name)
        assert len(str(refused.value)) < 200


def test_a_refusal_names_the_line_of_its_key_or_of_the_section_around(tmp_path: Path) -> None:
    read = read_yaml(file_of(tmp_path, "a: 1\nb:\n  c: 2\n"))
    where = f"{tmp_path}/c.yaml"
    assert str(read.refusal(BadKey("b.c", "wrong"))) == f"{where}, line 3: wrong"
    assert str(read.refusal(BadKey("b.missing", "wrong"))) == f"{where}, line 2: wrong"
    assert str(read.refusal(BadKey("d", "wrong"))) == f"{where}: wrong"
    assert str(read.refusal(UserError("wrong"))) == f"{where}: wrong"
