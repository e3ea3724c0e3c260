"""The CSVs: what goes in comes out, nothing runs in a spreadsheet, other readers see the columns."""

from __future__ import annotations

import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.samples import COLUMNS, SampleRow, read_samples, write_samples
from trlx.utils.errors import UserError
from trlx.utils.spreadsheet import neutralise, restore

ROW = SampleRow("p", "t", "post\nTL;DR:", -1.5, 2.0, 0.1, 0.2, 0.3, None, None, "id-1", True, 7, "", 0.15, 0.25, 0.35)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\u00a0=1", "＝1", "\ufeff=1", "\tx", "\rx"],
)
def test_formulas_get_an_apostrophe(text: str) -> None:
    assert neutralise(text) == "'" + text
    assert restore(neutralise(text)) == text


@pytest.mark.parametrize("text", ["", "the cat", "a=b", "it's", "'quoted'", "1-2", "  plain", "5"])
def test_other_text_stays(text: str) -> None:
    assert neutralise(text) == text
    assert restore(text) == text


def test_text_that_looks_treated_survives() -> None:
    assert neutralise("'=1") == "''=1"
    assert restore("''=1") == "'=1"


@given(st.text(alphabet="'=+-@\t\r\n aＡ＝\ufeff", max_size=6))
def test_restore_undoes_neutralise_and_no_cell_is_live(text: str) -> None:
    cell = neutralise(text)
    assert restore(cell) == text
    assert not cell.strip(" \t\r\n\ufeff").startswith(("=", "+", "-", "@", "＝"))


_TEXTS = st.one_of(st.text(max_size=30), st.text(alphabet="=+-@'\"\t\r\n,; a", max_size=8))
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_ROWS = st.builds(
    SampleRow,
    pred=_TEXTS,
    truth=_TEXTS,
    post=_TEXTS,
    id=_TEXTS,
    ended=st.booleans(),
    tokens=st.integers(0, 1000),
    faults=st.sampled_from(["", "empty", "no_eos repeats"]),
    **{name: _NUMBERS for name in COLUMNS if name.startswith(("score_", "rouge", "gold_", "second_"))},
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_ROWS, max_size=5))
def test_round_trip(rows: list[SampleRow]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.csv"
        write_samples(path, rows)
        assert read_samples(path) == rows


def test_columns_numbers_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "samples.csv"
    write_samples(path, [ROW, replace(ROW, pred="=1", ended=False)])
    raw = path.read_bytes()
    head = b'"pred","truth","post","score_pred","score_truth","rouge1","rouge2","rougeL","id","ended","tokens",'
    assert raw.startswith(head + b'"faults","rouge1_stemmed","rouge2_stemmed","rougeL_stemmed"\n')
    # Numbers stay numbers, negative ones too; text is quoted.
    assert b',-1.5,2.0,0.1,0.2,0.3,"id-1","true",7,"",0.15,0.25,0.35\n' in raw
    assert b'"\'=1"' in raw
    assert [item.name for item in path.parent.iterdir()] == ["samples.csv"]
    with path.open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["post"] == "post\nTL;DR:"
    frame = pandas.read_csv(path)
    assert frame["score_pred"].tolist() == [-1.5, -1.5]


def test_gold_columns_appear_when_known(tmp_path: Path) -> None:
    rows = [replace(ROW, gold_pred=0.5, gold_truth=-0.25, second_pred=1.0)]
    write_samples(tmp_path / "a.csv", rows)
    head = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert '"gold_pred"' in head
    assert '"second_pred"' in head
    assert "second_truth" not in head
    assert read_samples(tmp_path / "a.csv") == rows


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(UserError, match="no such file"):
        read_samples(path)
    path.write_text("pred,truth\na,b\n")
    with pytest.raises(UserError, match="column post"):
        read_samples(path)
    write_samples(path, [ROW])
    whole = path.read_text()
    path.write_text(whole.replace("-1.5", "much"))
    with pytest.raises(UserError, match=r"line 3: column score_pred holds 'much', not a number: .* writes it anew"):
        read_samples(path)
    path.write_text(whole + '"cut","short"\n')
    with pytest.raises(UserError, match=r"line 4: the row is cut short"):
        read_samples(path)
    path.write_text(whole.replace('"true",7,', '"true",nan,'))
    with pytest.raises(UserError, match=r"column tokens holds 'nan', not a whole number"):
        read_samples(path)


@pytest.mark.parametrize(("rows", "line"), [(0, 1), (1, 5)])
def test_a_file_cut_inside_a_cell_is_named(tmp_path: Path, rows: int, line: int) -> None:
    path = tmp_path / "a.csv"
    write_samples(path, [ROW] * rows)
    kept = path.read_text(encoding="utf-8") if rows else ""  # else cut in the header
    path.write_text(kept + ('"cut in\nthe mid' if rows else '"pre'), encoding="utf-8")
    said = rf"a\.csv, line {line}: no CSV \(unexpected end of data\): .* writes it anew"
    with pytest.raises(UserError, match=said):
        read_samples(path)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "a.csv"
    write_samples(path, [ROW, replace(ROW, id="second")])
    path.write_bytes(mark + path.read_bytes().replace(b'"second"', b'"caf\xe9"'))
    # The post has a line break of its own: the header, two lines, and the second of the other two.
    with pytest.raises(UserError, match=r"a\.csv, line 5: byte 0xe9 is no UTF-8: .* writes it anew"):
        read_samples(path)


@pytest.mark.parametrize(("cell", "ended"), [("TRUE", True), ("True", True), ("FALSE", False)])
def test_a_spreadsheet_saves_truth_in_capitals(tmp_path: Path, cell: str, ended: bool) -> None:
    path = tmp_path / "a.csv"
    write_samples(path, [replace(ROW, ended=not ended)])
    path.write_text(path.read_text().replace(f'"{str(not ended).lower()}"', cell))
    assert [row.ended for row in read_samples(path)] == [ended]


@pytest.mark.parametrize("cell", ["", "1", "WAHR"])
def test_another_word_for_truth_is_an_error(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "a.csv"
    write_samples(path, [ROW])
    path.write_text(path.read_text().replace('"true"', f'"{cell}"'))
    with pytest.raises(UserError, match=f"line 3: column ended holds '{cell}', neither true nor false"):
        read_samples(path)
