"""The command: one page is written, whatever is missing is said, and mistakes are one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.report.figures import style
from evaluation.report.write import main, write_report
from tests.evaluation.report.run_files import whole_run
from trlx.utils.errors import run_main


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, but not laid out and written as SVG, which takes seconds."""
    monkeypatch.setattr(style, "to_svg", lambda drawing, salt: "<svg />")


def test_the_page_lies_in_the_root_and_holds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = whole_run(tmp_path)
    main(["--root", str(tmp_path)])
    assert capsys.readouterr().out == f"{run.report}  (3 posts, 9 figures)\n"
    page = run.report.read_text(encoding="utf-8")
    for words in (
        "0.320",
        "The body of post 2.",
        "summary 1",
        "longer by far",
        "Calibration",
        "What distance from SFT",
    ):
        assert words in page


def test_what_is_missing_is_said_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = whole_run(tmp_path)
    run.frontier.unlink()
    main(["--root", str(tmp_path)])
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("missing: frontier.json is missing: ")
    assert "frontier.json is missing" in run.report.read_text(encoding="utf-8")


def test_what_is_missing_obeys_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = whole_run(tmp_path)
    run.results.write_text('{"format": "\\u001b[2J"}', encoding="utf-8")
    main(["--root", str(tmp_path)])
    said = capsys.readouterr().out
    assert "missing: results.json is of format \\x1b[2J" in said and "\x1b" not in said


def test_another_file(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    out = tmp_path / "pages" / "page.html"
    assert write_report(tmp_path, out) == out
    assert out.is_file() and not run.report.exists()


def test_an_empty_root_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_main(lambda: main(["--root", str(tmp_path)]))
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"error: {tmp_path}: nothing to report, neither curves nor results; name a run's root folder with --root, "
        "or run the stages with the same --root (`make demo` makes a small run)\n"
    )
    assert list(tmp_path.iterdir()) == []
