"""`python -m evaluation samples`: which posts come, in which order, and how hostile text is shown."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from evaluation.report.joining import join
from evaluation.show_samples import SamplesOptions, choose, in_order, main, read
from evaluation.side_by_side import Column, print_columns, print_post
from tests.evaluation.sample_rows import row, write_models
from trlx.utils.errors import UserError
from trlx.utils.terminal import inert

MODELS = ["sft", "ppo"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five posts. Rewards of PPO: 3, -1, 2, not a number, 0; of SFT: 2, 0, 6, 0, 0."""
    monkeypatch.setenv("COLUMNS", "100")
    nan = float("nan")
    sft = [row(number, reward) for number, reward in enumerate([2.0, 0.0, 6.0, 0.0, 0.0])]
    ppo = [row(number, reward, tokens=50 - number) for number, reward in enumerate([3.0, -1.0, 2.0, nan, 0.0])]
    write_models(tmp_path, sft=sft, ppo=ppo)
    return tmp_path


def ids(root: Path, **options: object) -> list[str]:
    chosen = SamplesOptions(root=str(root), **options)  # type: ignore[arg-type]
    return [sample.id for sample in choose(read(str(root), MODELS), chosen, MODELS)]


@pytest.mark.parametrize(
    ("order", "by", "expected"),
    [
        ("worst", "reward", ["p1", "p4", "p2", "p0", "p3"]),
        ("best", "reward", ["p0", "p2", "p4", "p1", "p3"]),
        # |3 − 2| = 1, |−1 − 0| = 1, |2 − 6| = 4, unknown, 0: p0 comes before p1 as in the file.
        ("change", "reward", ["p2", "p0", "p1", "p4", "p3"]),
        ("best", "tokens", ["p0", "p1", "p2", "p3", "p4"]),
        # 50 − n against 5 + n: 45, 43, 41, ...
        ("change", "tokens", ["p0", "p1", "p2", "p3", "p4"]),
        ("worst", "rougeL", ["p0", "p1", "p2", "p3", "p4"]),
    ],
)
def test_orders(root: Path, order: str, by: str, expected: list[str]) -> None:
    assert ids(root, order=order, by=by) == expected
    assert ids(root, order=order, by=by, n=2) == expected[:2]


def test_random_order_is_the_seeds(root: Path) -> None:
    everything = ids(root)
    assert sorted(everything) == ["p0", "p1", "p2", "p3", "p4"]
    assert ids(root) == everything
    assert ids(root, n=3) == everything[:3]
    assert {tuple(ids(root, seed=seed)) for seed in range(8)} != {tuple(everything)}


def test_ids_and_text(root: Path) -> None:
    assert ids(root, id="p3, p1", n=1, order="worst") == ["p1", "p3"]
    assert ids(root, find="BODY OF POST 2") == ["p2"]
    assert ids(root, find="summary 4") == ["p4"]
    assert ids(root, find="title 0") == ["p0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "sft,pppo"], "no samples of 'pppo' in .*; did you mean 'ppo'"),
        (["--models", ","], "names no model"),
        (["--by", "rougL"], "the samples have no 'rougL'; did you mean 'rougeL'"),
        (["--by", "gold", "--order", "worst"], "the samples have no 'gold'"),
        (["--id", "p9"], "no post 'p9' among 5"),
        (["--find", "zebra"], "stands in none of 5 posts"),
        (["--models", "sft", "--order", "change"], "--order change compares two"),
        (["--n", "0"], "--n must be at least 1"),
    ],
)
def test_what_cannot_be_shown(root: Path, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["--root", str(root), *options])


def test_nothing_was_judged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; trlx_inference_gptneo\.py writes it"):
        main(["--root", str(tmp_path)])
    with pytest.raises(UserError, match="no such folder; name a run's root"):
        main(["--root", str(tmp_path / "absent")])


def test_no_post_in_common(tmp_path: Path) -> None:
    write_models(tmp_path, sft=[row(1)], ppo=[row(2)])
    with pytest.raises(UserError, match="sft and ppo have no post in common"):
        main(["--root", str(tmp_path)])


def test_models_that_cover_other_posts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_models(tmp_path, sft=[row(1), row(2)], ppo=[row(2)])
    main(["--root", str(tmp_path)])
    printed = capsys.readouterr()
    assert "1 of 1 posts" in printed.out
    assert "ppo lacks 1 of 2 posts (id 'p1')" in printed.err


# ---------------------------------------------------------------- how it looks


def words(text: str) -> list[str]:
    return text.split()


def test_wide_shows_columns_side_by_side(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--root", str(root), "--id", "p1"])
    lines = capsys.readouterr().out.splitlines()
    assert any(words(line) == ["SFT", "PPO", "reference"] for line in lines)
    assert any(words(line) == ["reward", "0.000", "-1.000", "0.500"] for line in lines)
    assert any(words(line) == ["tokens", "6", "49"] for line in lines)
    assert max(map(len, lines)) <= 100


def test_narrow_shows_them_one_under_the_other(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    main(["--root", str(root), "--id", "p1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line in ("SFT", "PPO", "reference")] == ["SFT", "PPO", "reference"]
    assert any("reward\u00a0-1.000" in line for line in lines)
    assert max(map(len, lines)) <= 40


def test_cut_summaries_faults_and_odd_numbers_are_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = row(1, float("nan"), pred="", ended=False, faults="empty no_eos")
    write_models(tmp_path, sft=[bad], ppo=[row(1)])
    main(["--root", str(tmp_path)])
    printed = capsys.readouterr()
    lines = [words(line) for line in printed.out.splitlines()]
    assert ["tokens", "6,", "cut", "6"] in lines
    assert ["faults", "empty", "no_eos", "–"] in lines
    assert ["reward", "–", "0.000", "0.500"] in lines
    assert "(nothing)" in printed.out
    assert "sft: 1 of 1 values of score_pred are not finite" in printed.err


def test_a_change_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--root", str(root), "--order", "change", "--n", "1"])
    assert "1 of 1 · p2 · reward -4.000 from SFT to PPO" in capsys.readouterr().out


HOSTILE = (
    "a \x1b[31mred\x1b[0m \x1b]0;title\x07 [bold]b[/bold] [/] :smile: \u202egnirts\u202c שלום \r\x08 \x9b2J <script>"
)


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    post = f"SUBREDDIT: r/{HOSTILE}\nTITLE: {HOSTILE}\nPOST: {HOSTILE}\nTL;DR:"
    hostile = row(1, pred=HOSTILE, truth=HOSTILE, post=post, id="p\x1b[2J")
    write_models(tmp_path, sft=[hostile], ppo=[hostile])
    main(["--root", str(tmp_path)])
    printed = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", printed)
    for seen in (r"\x1b[31mred\x1b[0m", "[bold]b[/bold]", "[/]", ":smile:", r"\u202e", "שלום", r"\x9b2J", "<script>"):
        assert seen in printed


def shown(column_text: str, source: str, *, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=60, force_terminal=terminal, markup=False, highlight=False, color_system="standard"
    )
    print_columns(console, source, [Column("SFT", column_text, {})])
    return stream.getvalue()


def test_words_from_the_post_are_marked() -> None:
    plain = shown("Yesterday my dog ran away", "Help! My dog ran far.", terminal=False)
    assert "Yesterday [my dog ran] away" in plain
    styled = shown("Yesterday my dog ran away", "Help! My dog ran far.", terminal=True)
    assert re.search("Yesterday \x1b\\[4;32mmy dog ran\x1b\\[0m away", styled)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_any_text_can_be_shown(text: str) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=70, markup=False, highlight=False, emoji=False, color_system=None)
    print_post(console, text, text, text, text)
    print_columns(console, text, [Column(text, text, {"reward": "1"}), Column("PPO", text, {})])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", stream.getvalue())


@given(st.text())
def test_inert_text_stays_as_it_is(text: str) -> None:
    shown = inert(text)
    assert inert(shown) == shown
    assert not text.isprintable() or shown == text


@given(st.lists(st.one_of(st.none(), st.floats(-9, 9)), min_size=1, max_size=12))
def test_worst_and_best_are_each_others_mirror(values: list[float | None]) -> None:
    rows = [row(number, float("nan") if value is None else value) for number, value in enumerate(values)]
    _, samples = join({"ppo": rows}, lambda sentence: None)
    known = {f"p{number}": value for number, value in enumerate(values) if value is not None}
    worst = [sample.id for sample in in_order(samples, "worst", "reward", ["ppo"])]
    best = [sample.id for sample in in_order(samples, "best", "reward", ["ppo"])]
    assert [known[one] for one in worst[: len(known)]] == sorted(known.values())
    assert [known[one] for one in best[: len(known)]] == sorted(known.values(), reverse=True)
    assert set(worst[len(known) :]) == set(best[len(known) :]) == {f"p{n}" for n, v in enumerate(values) if v is None}
