from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading import json_values
from tasks.reading.json_values import JsonDecoder, JsonText
from tasks.reading.opening import Opened
from trlx.utils.errors import UserError

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def opened(text: str, limit: int = 2**20) -> JsonText:
    return JsonText(Opened(Path("x.json"), io.BytesIO(text.encode("utf-8", "surrogatepass")), limit))


def read(text: JsonText) -> list[Any]:
    return list(text.elements() if text.is_list() else text.sequence())


@pytest.mark.parametrize("chunk", [1, 2, 7, 2**16])
@given(
    rows=st.lists(ANY_JSON, min_size=1, max_size=5),
    indent=st.sampled_from([None, 0, 2]),
    escaped=st.booleans(),
    as_list=st.booleans(),
)
def test_the_same_values_as_the_library_reads_from_the_whole_text(
    chunk: int, rows: list[Any], indent: int | None, escaped: bool, as_list: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Every value is cut at every place, whichever comes first.
        patch.setattr(json_values, "_CHUNK", chunk)
        dumped = json.dumps(rows, indent=indent, ensure_ascii=escaped)
        if not as_list:
            # A list is no value that a sequence may begin with.
            rows = [row for row in rows if not isinstance(row, list)]
            dumped = "\r\n".join(json.dumps(row, indent=indent, ensure_ascii=escaped) for row in rows)
        try:
            dumped.encode()
        except UnicodeEncodeError:  # half characters, which only escapes can write
            return
        found = read(opened(dumped))
    assert found == rows
    assert json.dumps(found) == json.dumps(rows)  # 1 == 1.0 == True, but not here


@pytest.mark.parametrize("chunk", [1, 3, 2**16])
def test_lines_are_counted_across_pieces(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_CHUNK", chunk)
    text = opened('\n[\n{"a":\n"é"},\n\n{}, 1,\n"x"\n]\n')
    assert text.is_list()
    assert [(text.number, text.where) for _ in text.elements()] == [
        (1, "x.json, element 1, line 3"),
        (2, "x.json, element 2, line 6"),
        (3, "x.json, element 3, line 6"),
        (4, "x.json, element 4, line 7"),
    ]


@pytest.mark.parametrize("chunk", [1, 5, 2**16])
@pytest.mark.parametrize(
    "text, message",
    [
        ("[1, 2", "x.json, element 2, line 1: not JSON (a comma or the closing ] is missing)"),
        ('[1,\n{"a" 2}]', "x.json, element 2, line 2: not JSON (Expecting ':' delimiter)"),
        ('[1,\n{"a": "b" "c"}, "' + "x" * 50 + '"]', "x.json, element 2, line 2: not JSON (Expecting ',' delimiter)"),
        ('["\n"]', "x.json, element 1, line 1: not JSON (Invalid control character at)"),
        ('{"a":\n\n"b', "x.json, line 3: not JSON (Unterminated string starting at)"),
        ("tru", "x.json, line 1: not JSON (Expecting value)"),
        ('{"a": "\\ud83', "x.json, line 1: not JSON ("),
        ("[]\n\n1", "x.json, line 3: not JSON (text after the end of the list)"),
    ],
)
def test_errors_are_the_same_for_pieces_of_any_size(
    chunk: int, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "_CHUNK", chunk)
    with pytest.raises(UserError) as caught:
        read(opened(text))
    assert str(caught.value).startswith(message)


def test_half_a_character_at_the_end_of_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_CHUNK", 1)
    assert read(opened('["日本"]')) == ["日本"]
    text = JsonText(Opened(Path("x.json"), io.BytesIO('["日'.encode()[:-1]), 99))
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 0xe6\)"):
        read(text)


@pytest.mark.parametrize("chunk", [1, 2**16])
def test_a_value_may_be_as_long_as_the_limit(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_CHUNK", chunk)
    assert read(opened('["' + "x" * 18 + '"]', limit=20)) == ["x" * 18]
    with pytest.raises(UserError, match="element 1, line 1: a value of over 20 bytes"):
        read(opened('["' + "x" * 19 + '"]', limit=20))


def test_a_long_value_is_parsed_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_CHUNK", 16)
    tries = []
    value_at = JsonDecoder.value_at
    monkeypatch.setattr(JsonDecoder, "value_at", lambda *given: (tries.append(1), value_at(*given))[1])
    read(opened(json.dumps([["x"] * 20_000])))  # 100,000 characters: 16 doubled 13 times
    assert len(tries) <= 15


def test_the_decoder_says_what_json_does_not_have() -> None:
    decoder = JsonDecoder()
    assert decoder.value_at("[NaN, 1]", 0) == ([None, 1], 8)
    assert (decoder.trouble, decoder.culprit) == ("a number that is not finite", "NaN")
    assert decoder.value_at("[1.5, -2e3, 7]", 0) == ([1.5, -2000.0, 7], 14)
    assert decoder.trouble == ""
    decoder.value_at("9" * 5000, 0)
    assert decoder.trouble.startswith("an integer of over") and decoder.culprit == "9" * 36 + "..."
