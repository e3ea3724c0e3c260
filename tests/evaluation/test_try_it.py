"""`python -m evaluation try`: how posts are read, what is written about them, and what is chosen."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evaluation.pasted import asked, blocks, prompt_of, prompts_from
from evaluation.trial import Bench
from evaluation.try_it import TryOptions, limits, load, main
from tasks.run_folder import RunFolder
from trlx.generation.sampling import generate_texts
from trlx.utils.errors import UserError
from trlx.utils.terminal import open_console

REPO = Path(__file__).resolve().parents[2]
SMALL = ("--max_prompt_tokens", "60", "--max_new_tokens", "8", "--n", "4")
WHOLE = "SUBREDDIT: r/pets\nTITLE: Dog\nPOST: my dog ran\nTL;DR:"
PROMPT = "SUBREDDIT: r/x\nTITLE: cat\nPOST: my boss sold the car and left Rome\nTL;DR:"


# ---------------------------------------------------------------- reading posts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  my dog\nran  \n", "POST: my dog\nran\nTL;DR:"),
        ("TITLE: Dog\nmy dog ran", "TITLE: Dog\nPOST: my dog ran\nTL;DR:"),
        (WHOLE, WHOLE),
        ("SUBREDDIT: pets\nPOST: my dog ran", "SUBREDDIT: r/pets\nPOST: my dog ran\nTL;DR:"),
        ("Article:\n\nRain in Rome.", "Article:\n\nRain in Rome.\nTL;DR:"),
    ],
)
def test_a_pasted_text_becomes_a_prompt(text: str, expected: str) -> None:
    assert prompt_of(text) == expected


def test_what_is_missing_is_asked_for() -> None:
    answers = {"Subreddit": "r/pets", "Title": "Dog"}
    assert prompt_of("my dog ran", answers.__getitem__) == WHOLE
    assert prompt_of("TITLE: Cat\nmy dog ran", {"Subreddit": ""}.__getitem__) == "TITLE: Cat\nPOST: my dog ran\nTL;DR:"


def test_a_post_without_text() -> None:
    with pytest.raises(UserError, match="the post has no text"):
        prompt_of("SUBREDDIT: r/pets\nTITLE: Dog\nPOST: ")


def test_a_line_with_a_dot_parts_posts() -> None:
    assert list(blocks(iter(["a", "b.", " . ", ".", "", "c"]))) == ["a\nb.", "", "\nc"]


def typed(*lines: str | None) -> Callable[[str], str]:
    """A person who types these lines; None is Ctrl-D."""
    left = iter(lines)

    def read(prompt: str) -> str:
        line = next(left)
        if line is None:
            raise EOFError
        return line

    return read


def test_a_person_is_asked_again_until_nothing_comes() -> None:
    said: list[str] = []
    read = typed("", "my dog", "ran", ".", "r/pets", "Dog", "TITLE: Cat", "it sat", None, None, ".")
    assert list(asked(read, said.append)) == [
        "SUBREDDIT: r/pets\nTITLE: Dog\nPOST: my dog\nran\nTL;DR:",
        "TITLE: Cat\nPOST: it sat\nTL;DR:",
    ]
    assert len([line for line in said if "Paste a post" in line]) == 3


def test_a_mistake_at_the_terminal_is_not_the_end() -> None:
    said: list[str] = []
    prompts = list(asked(typed("TITLE: only", ".", "many lines\nat once\n.", "", "", None), said.append))
    assert prompts == ["POST: many lines\nat once\nTL;DR:"]
    assert any(line.startswith("error: the post has no text") for line in said)


def test_files_and_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "posts.txt"
    file.write_bytes(b"\xef\xbb\xbfone caf\xe9\r\ntwo\r\n.\r\n\r\n.\r\nthree")
    assert list(prompts_from(str(file))) == ["POST: one caf\ufffd\ntwo\nTL;DR:", "POST: three\nTL;DR:"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("caf\u00e9 \U0001f415".encode()), encoding="ascii"))
    assert list(prompts_from(None)) == ["POST: caf\u00e9 \U0001f415\nTL;DR:"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n.\n"))
    with pytest.raises(UserError, match="standard input holds no post"):
        prompts_from(None)
    with pytest.raises(UserError, match=r"--file .*absent\.txt: cannot be read"):
        prompts_from(str(tmp_path / "absent.txt"))


# ---------------------------------------------------------------- what is written


@pytest.fixture(scope="module")
def bench(run_root: Path) -> Bench:
    options = TryOptions(root=str(run_root), n=4, max_prompt_tokens=60, max_new_tokens=8)
    return load(options, open_console())


def test_every_policy_writes_and_the_best_sample_is_chosen(bench: Bench) -> None:
    trial = bench.attempt(PROMPT)
    assert [column.title for column in trial.columns] == ["SFT, greedy", "PPO, greedy", "best of 4, SFT"]
    sft, ppo, best = trial.columns
    for column, policy in zip((sft, ppo), bench.policies, strict=True):
        made = generate_texts(policy.model, policy.tokenizer, [PROMPT], {"max_new_tokens": 8, "do_sample": False}, 1)
        assert column.text == made[0].text.strip()
        reward = bench.scorers["reward"].score([PROMPT], [made[0].text], [made[0].ended])[0]
        assert column.facts["reward"] == f"{reward:.3f}"
    highest = trial.remarks[0].split(" to ")[1].split(",")[0]
    assert best.facts["reward"] == highest
    assert trial.remarks[0].startswith("4 samples of SFT at temperature 1")


def test_the_same_post_gives_the_same_samples_whatever_came_before(bench: Bench) -> None:
    first = bench.attempt(PROMPT).columns[2].text
    bench.attempt("POST: the keys\nTL;DR:")
    assert bench.attempt(PROMPT).columns[2].text == first


def test_the_best_of_more_is_no_worse(bench: Bench) -> None:
    def best(n: int) -> float:
        more = Bench(bench.form, bench.policies, bench.scorers, 60, 8, n, batch_size=1, seed=3)
        return float(more.attempt(PROMPT).columns[2].facts["reward"])

    # One row a batch: the first samples of a longer list are those of a shorter one.
    assert best(1) <= best(3) <= best(6)


def test_a_long_post_is_cut_as_in_the_evaluation(bench: Bench) -> None:
    body = "\n".join(["my boss sold the car"] * 30)
    trial = bench.attempt(f"TITLE: cat\nPOST: {body}\nTL;DR:")
    tokens = len(bench.policies[0].tokenizer(trial.prompt)["input_ids"])
    assert tokens <= 60
    assert trial.prompt.startswith("TITLE: cat\nPOST: my boss") and trial.prompt.endswith("car\nTL;DR:")
    assert f"{tokens} of its" in trial.remarks[0] and "(at most 60)" in trial.remarks[0]


def test_the_label_of_a_classifier(classified_root: Path, run_root: Path) -> None:
    def reward(root: Path, label: str | None) -> float:
        options = TryOptions(
            root=str(root), models="sft", n=0, max_prompt_tokens=60, max_new_tokens=8, reward_label=label
        )
        return float(load(options, open_console()).attempt(PROMPT).columns[0].facts["reward"])

    assert reward(classified_root, "POSITIVE") == -reward(classified_root, "NEGATIVE")
    with pytest.raises(UserError, match="say with --reward_label"):
        reward(classified_root, None)
    with pytest.raises(UserError, match="no text classifier is among the reward models: leave it out"):
        reward(run_root, "POSITIVE")


def test_a_heading_that_leaves_no_room(bench: Bench) -> None:
    with pytest.raises(UserError, match="a prompt needs more than 60 tokens"):
        bench.attempt(f"TITLE: {'cat ' * 80}\nPOST: x\nTL;DR:")


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def judged_twice(run_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a second reward model and an evaluation that read 60 tokens and wrote 8."""
    root = tmp_path_factory.mktemp("second")
    shutil.copytree(run_root / "ckpts", root / "ckpts")
    shutil.copytree(root / "ckpts" / "reward_model", root / "ckpts" / "second_reward_model")
    write_results(root, {"max_prompt_tokens": 60, "decoding": {"max_new_tokens": 8}})
    return root


def write_results(root: Path, run: object) -> None:
    """A results.json without results."""
    nothing = {"models": {}, "differences": {}, "preferences": [], "baseline": "sft", "posts": 0}
    (root / "results.json").write_text(json.dumps({"format": 2, "run": run, **nothing}), encoding="utf-8")


def test_limits_are_those_of_the_evaluation(judged_twice: Path, tmp_path: Path) -> None:
    run = RunFolder.of(judged_twice)
    assert limits(TryOptions(), run) == (60, 8)
    assert limits(TryOptions(max_prompt_tokens=30, max_new_tokens=4), run) == (30, 4)
    assert limits(TryOptions(), RunFolder.of(tmp_path)) == (500, 50)
    write_results(tmp_path, {"max_prompt_tokens": 60})
    assert limits(TryOptions(), RunFolder.of(tmp_path)) == (60, 50)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (None, "'run' is no object; .*writes it anew"),
        ([], "'run' is no object; .*writes it anew"),
        ({"max_prompt_tokens": "many"}, "max_prompt_tokens is 'many', no number of tokens; give --max_prompt_tokens"),
        ({"decoding": {"max_new_tokens": 0}}, "max_new_tokens is 0, no number of tokens; give --max_new_tokens"),
    ],
)
def test_results_that_do_not_say_the_limits(tmp_path: Path, facts: object, message: str) -> None:
    write_results(tmp_path, facts)
    run = RunFolder.of(tmp_path)
    with pytest.raises(UserError, match=rf"results\.json: {message}"):
        limits(TryOptions(), run)
    # Given by hand they need no results.
    assert limits(TryOptions(max_prompt_tokens=30, max_new_tokens=4), run) == (30, 4)


def test_results_without_decoding_leave_the_default(tmp_path: Path) -> None:
    write_results(tmp_path, {"max_prompt_tokens": 60, "decoding": None})
    assert limits(TryOptions(), RunFolder.of(tmp_path)) == (60, 50)


def test_piped_posts(judged_twice: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stdin", io.StringIO("my boss \x1b[2J[b]left\n.\nSUBREDDIT: r/x\nthe dog\n"))
    main(["--root", str(judged_twice), "--n", "2"])
    printed = capsys.readouterr().out
    assert printed.count("the post as it was read") == 2
    assert r"my boss \x1b[2J[b]left" in printed and "\x1b" not in printed
    lines = [line.split() for line in printed.splitlines()]
    # The same weights twice: both judges agree.
    rewards = [line[1:] for line in lines if line[:1] == ["reward"]]
    assert rewards == [line[1:] for line in lines if line[:1] == ["second_reward"]]
    assert len(rewards) == 2 and all(len(row) == 3 for row in rewards)


def test_no_samples(run_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "post.txt"
    file.write_text("the cat left Rome", encoding="utf-8")
    main(["--root", str(run_root), *SMALL, "--n", "0", "--file", str(file)])
    printed = capsys.readouterr().out
    assert "SFT, greedy" in printed and "best of" not in printed


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("ckpts/best_checkpoint", "no ppo model in .*trlx_gptneo_text_summarization.py"),
        ("ckpts/sft", "no sft model in .*train_gptneo_summarize.py"),
        ("ckpts/reward_model", "no reward model in .*train_reward_model_gptneo.py"),
    ],
)
def test_a_missing_model_and_what_makes_it(
    run_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str, message: str
) -> None:
    shutil.copytree(run_root / "ckpts", tmp_path / "ckpts")
    shutil.rmtree(tmp_path / gone)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a post"))
    with pytest.raises(UserError, match=message):
        main(["--root", str(tmp_path), *SMALL])


def test_more_than_the_models_can_read(run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a post"))
    with pytest.raises(UserError, match=r"--max_prompt_tokens \+ --max_new_tokens is 550 but the model has 256"):
        main(["--root", str(run_root), "--max_prompt_tokens", "500", "--max_new_tokens", "50"])


def test_at_a_terminal(run_root: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "evaluation", "try", "--root", str(run_root), *SMALL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TERM": "dumb", "COLUMNS": "100"}
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, cwd=REPO, env=environment) as process:
        os.close(theirs)
        os.write(ours, b"my boss sold the car\n.\nr/x\ncat\n\x04")
        guard = threading.Timer(120, process.kill)
        guard.start()
        printed = process.communicate()[0].decode()
        guard.cancel()
    os.close(ours)
    assert process.returncode == 0
    assert printed.count("Paste a post") == 2 and "r/x\ncat\nmy boss sold the car\n" in printed
    assert "best of 4, SFT" in printed


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Bars of loading are switched off by the command for good; other tests want them as they were."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    yield
    (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
