"""`.conf` files: literals come through as they are, and nothing is ever run."""

from __future__ import annotations

import ast
import pprint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.conf.literals import read_conf
from trlx.utils.errors import UserError

WHOLE = """# I am python, not json
{
    "General": {"base_model": "gpt2", "lora_config": {"r": 8, "lora_dropout": 0.1}},
    "Dataset": {
        "train_file": 'a.jsonl',  # a comment
        "validation_file": None,
        "validation_split_percentage": 5,
    },
    "Training": {"learning_rate": 1e-5, "shift": -2, "gpu": False, "resources_per_worker": {"CPU": 32},},
}
"""


def conf(folder: Path, text: str) -> Path:
    path = folder / "x.conf"
    path.write_text(text, encoding="utf-8")
    return path


def test_values_and_lines(tmp_path: Path) -> None:
    read = read_conf(conf(tmp_path, WHOLE))
    assert read.values == ast.literal_eval(WHOLE)
    assert read.lines["General.lora_config.r"] == 3
    assert read.lines["Dataset.validation_file"] == 6
    assert read.lines["Training.resources_per_worker.CPU"] == 9


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=9), JSON, max_size=4), st.integers(20, 100))
def test_every_dict_of_literals_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], width: int
) -> None:
    path = tmp_path_factory.mktemp("conf") / "x.conf"
    path.write_bytes(pprint.pformat(values, width=width).encode("utf-8", "surrogatepass"))
    try:
        assert read_conf(path).values == values
    except UserError as error:
        assert "not UTF-8" in str(error)  # half a surrogate pair is no text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {\n"b": __import__("os").system("touch ran")}}', r"x.conf, line 2: code, not a literal"),
        ('{\n"a": 2 * 3}', r"x.conf, line 2: code, not a literal \('2 \* 3'\)"),
        ('{"a": [1,\n2,\nf"{1}"]}', r"x.conf, line 3: code"),
        ('{"a": os.environ}', r"line 1: code"),
        ('{**{"a": 1}}', r"line 1: code"),
        ('{"a": {1, 2}}', r"line 1: code"),
        ('{"a": b"x"}', r"line 1: code"),
        ('{"a": -"x"}', r"line 1: code"),
        ('{"a": 1j}', r"line 1: code"),
        ('# c\nimport os\n{"a": 1}', r"line 2: code"),
        ('config = {"a": 1}', r"line 1: code"),
        ('{"a": 1\n"b": 2}', r"x.conf, line [12]: invalid syntax"),
        ('{"a": null}', r"line 1: code, not a literal \('null'\)"),
        ("{1: 2}", r"line 1: the key 1 is no text"),
        ('{"a": 1,\n"a": 2}', r"line 2: the key 'a' is there already"),
        ("[1]", r"line 1: a dict is needed"),
        ("", r"the file is empty"),
        ("# nothing\n", r"line 1"),
        ('{"a": ' + "[" * 400 + "]" * 400 + "}", r"x.conf"),
        ('{"a": "\x00"}', r"x.conf"),
    ],
)
def test_what_is_no_literal_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        read_conf(conf(tmp_path, text))
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.conf"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_conf(tmp_path / "missing.conf")
    with pytest.raises(UserError, match=r"is a folder: name a \.conf file"):
        read_conf(tmp_path)
