"""`python -m evaluation prompts`: every model answers the prompts it is given, and the file says what was shown."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.answers import Answers, summary_table, write_answers
from evaluation.contestants import with_pretrained
from evaluation.pasted import asked, written_by
from evaluation.policies import load_policy
from evaluation.prompts import PromptsOptions, decoding_text, main, parse, read_prompts
from evaluation.trial import column_of, faults_of
from reward_model.scorer import RewardScorer
from tasks.encoding import cut_prompts
from tasks.form import TextForm
from tasks.instruct import format_instruction
from tasks.records import Post
from tasks.registry import get_task
from tasks.run_folder import RunFolder
from trlx.generation.records import GeneratedText
from trlx.generation.sampling import generate_texts
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_tokenizer

SMALL = ("--max_prompt_tokens", "100", "--max_new_tokens", "8")
TLDR = get_task("tldr").form
INSTRUCT = get_task("instruct").form


@pytest.fixture
def root(run_root: Path, tmp_path: Path) -> Path:
    """A run whose SFT began from its own `base`."""
    shutil.copytree(run_root / "ckpts", tmp_path / "ckpts")
    shutil.copytree(run_root / "ckpts" / "sft", tmp_path / "base")
    (tmp_path / "ckpts" / "sft" / "run.json").write_text(json.dumps({"options": {"model": "/moved/since/base"}}))
    return tmp_path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- which prompts


def prompts(form: TextForm, **options: Any) -> list[str]:
    return [post.prompt for post in read_prompts(PromptsOptions(**options), form)]


def test_prompts_of_the_command_line_file_and_data(tmp_path: Path) -> None:
    options = parse(["--prompt", "a cat", "--seed", "3", "--prompt=b: c\n[d]", "--task", "instruct"])
    assert options.prompt == ["a cat", "b: c\n[d]"] and (options.seed, options.task) == (3, "instruct")
    assert prompts(INSTRUCT, prompt=options.prompt)[1] == "### Instruction:\nb: c\n[d]\n\n### Response:"
    assert prompts(TLDR, prompt=["a cat"]) == ["POST: a cat\nTL;DR:"]
    text, rows = tmp_path / "p.txt", tmp_path / "p.jsonl"
    text.write_text("one\n.\ntwo\nlines\n", encoding="utf-8")
    rows.write_text('{"prompt": "one"}\n{"instruction": "two", "response": "2"}\n', encoding="utf-8")
    assert prompts(INSTRUCT, file=str(text)) == [
        "### Instruction:\none\n\n### Response:",
        "### Instruction:\ntwo\nlines\n\n### Response:",
    ]
    posts = read_prompts(PromptsOptions(task="instruct", data=str(rows)), INSTRUCT)
    assert [post.summary for post in posts] == ["", "2"]


def test_try_asks_for_no_subreddit_where_there_are_none() -> None:
    lines = iter(["Name three rivers.", ".", ""])
    prompts = list(asked(lambda _: next(lines, "."), lambda _: None, written_by(INSTRUCT)))
    assert prompts == ["### Instruction:\nName three rivers.\n\n### Response:"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"no prompts: give --prompt \(once or more\), --file or --data"),
        ({"prompt": ["x"], "data": "y"}, "--prompt and --data exclude each other"),
        ({"prompt": ["x", " "]}, "--prompt is empty: give it a text"),
        ({"file": "absent.txt"}, r"--file absent\.txt: cannot be read"),
    ],
)
def test_what_gives_no_prompts(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_prompts(PromptsOptions(**options), TLDR)


def test_settings_of_samples_need_samples() -> None:
    with pytest.raises(UserError, match=r"--top_p is of samples, .*: give --sample true"):
        parse(["--prompt", "x", "--top_p", "0.9"])
    options = parse(["--prompt", "x", "--sample", "--top_p", "0.9", "--temperature", "0.7"])
    assert decoding_text(options, 8) == "sampled at temperature 0.7, top_p 0.9, seed 0, at most 8 new tokens"
    assert decoding_text(PromptsOptions(), 8) == "greedy, at most 8 new tokens"


# ---------------------------------------------------------------- who answers


def test_pretrained_is_what_sft_began_from(root: Path, run_root: Path) -> None:
    run = RunFolder.of(root)
    assert with_pretrained("pretrained, sft,mine=x", run) == f"pretrained={root / 'base'}, sft,mine=x"
    (run.sft / "run.json").write_text(json.dumps({"options": {"model": str(run_root)}}))
    assert with_pretrained("pretrained", run) == f"pretrained={run_root}"
    assert with_pretrained("pretrained=y,sft", run) == "pretrained=y,sft"
    (run.sft / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot be told.*run\.json does not say.*pretrained=FOLDER"):
        with_pretrained("pretrained", run)


# ---------------------------------------------------------------- the command


def test_three_models_side_by_side(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    asked = ["the cat left \x1b[2J Paris", "my boss sold the car"]
    given = [part for text in asked for part in ("--prompt", text)]
    main(["--root", str(root), "--models", "pretrained,sft,ppo", *SMALL, *given])
    printed = capsys.readouterr().out
    assert "pretrained, SFT, PPO and the reward model" in printed and r"\x1b[2J" in printed and "\x1b" not in printed
    assert "reference" not in printed.split("All answers")[0]
    rows = table(root / "metadata" / "prompts.csv")
    assert [row["id"] for row in rows] == ["1", "2"] and "reference" not in rows[0]
    scorer = RewardScorer.load(root / "ckpts" / "reward_model", max_length=108)
    for name, folder in (("sft", root / "ckpts" / "sft"), ("ppo", root / "ckpts" / "best_checkpoint" / "hf_model")):
        model, tokenizer = load_policy(str(folder), torch.float32, torch.device("cpu")), load_tokenizer(folder)
        for row in rows:
            # One prompt at a time, greedily.
            (made,) = generate_texts(model, tokenizer, [row["prompt"]], {"max_new_tokens": 8, "do_sample": False}, 1)
            assert row[f"{name}_answer"].removeprefix("'") == made.text.strip()
            reward = scorer.score([row["prompt"]], [made.text], [made.ended])[0]
            assert float(row[f"{name}_reward"]) == pytest.approx(reward, abs=1e-4)
            assert row[f"{name}_ended"] == str(made.ended).lower() and int(row[f"{name}_tokens"]) == made.tokens
    # The base is a copy of SFT here.
    assert [row["pretrained_answer"] for row in rows] == [row["sft_answer"] for row in rows]


def test_samples_are_the_seeds_and_need_no_reward_model(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root / "ckpts" / "reward_model")

    def answers(seed: int) -> list[str]:
        common = ("--root", str(root), "--models", "sft", *SMALL, "--sample", "--task", "instruct")
        main([*common, "--prompt", "the cat", "--prompt", "my boss", "--seed", str(seed), "--temperature", "3"])
        return [row["sft_answer"] for row in table(root / "metadata" / "prompts.csv")]

    first = answers(1)
    assert answers(1) == first != answers(2)
    assert "SFT and no reward model" in capsys.readouterr().out
    assert "sft_reward" not in table(root / "metadata" / "prompts.csv")[0]


def test_a_split_of_a_task_as_markdown(root: Path, run_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "prompts.md"
    data = ("--data", str(run_root / "data"), "--split", "test", "--limit", "3")
    main(["--root", str(root), *data, *SMALL, "--reward_model", "none", "--show", "0", "--out", str(out)])
    text = out.read_text(encoding="utf-8")
    assert text.count("\n## ") == 3 and text.count("**`reference`**") == 3 and "| SFT |" in text
    assert "reward" not in text.lower().replace("no reward", "")


def test_posts_are_cut_as_in_the_evaluation(root: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "TITLE: cat\nPOST: " + "\n".join(["my boss sold the car"] * 40) + "\nTL;DR:", "label": "x"},
        {"prompt": f"TITLE: {'cat ' * 80}\nPOST: x\nTL;DR:", "label": "x"},  # the title alone is too long
    ]
    data = tmp_path / "posts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given = ("--root", str(root), "--models", "sft", "--data", str(data), "--show", "0", "--reward_model", "none")
    short = ("--max_prompt_tokens", "60", "--max_new_tokens", "4")
    with pytest.raises(UserError, match=r"posts\.jsonl, line 2.*a prompt needs more than 60 tokens"):
        main([*given, *short])
    main([*given, *short, "--bad_rows", "skip"])
    (row,) = table(root / "metadata" / "prompts.csv")
    tokens = len(load_tokenizer(root / "ckpts" / "sft")(row["prompt"])["input_ids"])
    assert 50 < tokens <= 60 and row["prompt"].endswith("car\nTL;DR:")
    with pytest.raises(UserError, match=r"no prompt is left: raise --max_prompt_tokens"):
        main([*given, "--max_prompt_tokens", "8", "--max_new_tokens", "4", "--bad_rows", "skip"])


def test_the_reward_model_must_take_as_many_tokens(root: Path) -> None:
    with pytest.raises(UserError, match=r"--max_prompt_tokens \+ --max_new_tokens is 550 but the model has 256"):
        main(["--root", str(root), "--prompt", "x"])
    with pytest.raises(UserError, match=r"no reward model in .*absent: check --reward_model, or give none"):
        main(["--root", str(root), "--prompt", "x", *SMALL, "--reward_model", str(root / "absent")])


def test_references_are_cut_as_in_the_evaluation(root: Path, tmp_path: Path) -> None:
    task, longest = get_task("sentiment"), 4
    data = tmp_path / "reviews.jsonl"
    data.write_text(json.dumps({"text": "the cat left my keys and sold the car " * 8, "label": 1}), encoding="utf-8")
    given = ("--root", str(root), "--task", "sentiment", "--models", "sft", "--reward_model", "none", "--show", "0")
    main([*given, "--data", str(data), "--max_prompt_tokens", "60", "--max_new_tokens", str(longest)])
    (row,) = table(root / "metadata" / "prompts.csv")
    tokenizer = load_tokenizer(root / "ckpts" / "sft")
    (post,) = cut_prompts(task.load_posts(str(data), None), task.form, tokenizer, 60, response_tokens=longest)
    assert row["reference"] == post.summary and row["prompt"] == post.prompt
    assert 1 <= len(tokenizer(f" {row['reference']}")["input_ids"]) < longest  # EOS is one


def test_the_label_of_a_classifier(classified_root: Path, run_root: Path) -> None:
    given = ("--models", "sft", *SMALL, "--prompt", "the cat left", "--show", "0")

    def reward(label: str) -> float:
        main(["--root", str(classified_root), *given, "--reward_label", label])
        return float(table(classified_root / "metadata" / "prompts.csv")[0]["sft_reward"])

    assert reward("POSITIVE") == pytest.approx(-reward("NEGATIVE"), abs=1e-5)
    with pytest.raises(UserError, match="say with --reward_label"):
        main(["--root", str(classified_root), *given])
    for model in ("none", str(run_root / "ckpts" / "reward_model")):
        with pytest.raises(UserError, match="no text classifier is among the reward models: leave it out"):
            main(["--root", str(classified_root), *given, "--reward_label", "POSITIVE", "--reward_model", model])


def test_paths_may_name_the_root(root: Path) -> None:
    (root / "p.txt").write_text("the cat left", encoding="utf-8")
    main(
        ["--root", str(root), "--models", "mine={root}/base", *SMALL, "--file", "{root}/p.txt", "--out", "{root}/x.md"]
    )
    assert (root / "x.md").is_file()


# ---------------------------------------------------------------- what is written


def test_what_copies_its_prompt_is_found_in_every_task() -> None:
    """The text after an instruction's heading is what a response may copy, as the evaluation has it."""
    said = "the cat left my keys and sold the car"
    cases = {"tldr": f"TITLE: Dog\nPOST: {said} then\nTL;DR:", "instruct": format_instruction(f"{said} then")}
    for task, prompt in cases.items():
        form = get_task(task).form
        assert faults_of(form, prompt, made(f" {said}")).names == ("copied_lead",)
        assert column_of(form, "x", prompt, made(f" {said}"), {}).facts["faults"] == "copied_lead"
        answers = Answers([Post("1", prompt, "")], {"a": [prompt]}, {"a": [made(f" {said}")]}, {}, "greedy", form)
        assert summary_table(answers).rows[0][-1].startswith("0.00")


def made(text: str, ended: bool = True, tokens: int = 3) -> GeneratedText:
    return GeneratedText(text, ended, tokens)


def test_means_and_hostile_texts(tmp_path: Path) -> None:
    posts = [Post("1", "why?", "because"), Post("2", "how? ```` x", "")]
    answers = Answers(
        posts,
        {"a": ["why?", "how?"]},
        {"a": [made(" =1+1"), made("", ended=False, tokens=5)]},
        {"a": [1.0, float("nan")]},
        "greedy",
        TLDR,
    )
    (row,) = summary_table(answers).rows
    # One reward alone is known; tokens 3 and 5; one of two ended; the other is empty and without an end.
    assert row[0] == "a" and row[1] == "1.000" and row[2].startswith("4.0") and row[3].startswith("0.50")
    assert row[4].startswith("0.50")
    write_answers(tmp_path / "x.csv", answers)
    rows = table(tmp_path / "x.csv")
    assert rows[0]["a_answer"] == "'=1+1" and rows[1]["a_reward"] == "" and rows[1]["reference"] == ""
    write_answers(tmp_path / "x.md", answers)
    assert "`````text\nhow? ```` x\n`````" in (tmp_path / "x.md").read_text(encoding="utf-8")
