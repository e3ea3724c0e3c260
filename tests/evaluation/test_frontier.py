"""The frontier on tiny models, end to end: what is written, what is kept, what is done again, what is left out."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluation import frontier, sampled
from evaluation.frontier_policies import checkpoints_of, find_policies, spaced
from evaluation.progress import Progress
from evaluation.sampled import Sampler, Samples, text_measures
from tasks.records import Post
from tasks.registry import get_task
from tasks.run_folder import RunFolder
from tasks.scratch_model import ModelSize, random_gpt_neo, train_tokenizer
from trlx.utils.errors import UserError

SMALL = ("--data", "{root}/data", "--limit", "10", "--samples", "6", "--policy_samples", "2", "--batch_size", "8")
SHORT = ("--max_length", "200", "--max_new_tokens", "12", "--resamples", "200")
OTHER = ModelSize(vocab_size=300, layers=2, hidden=32, heads=2, window=8, max_positions=256)
INTERVAL = {"mean", "low", "high", "n"}


def run(root: Path, *options: str) -> dict[str, Any]:
    frontier.main(["--root", str(root), *SMALL, *SHORT, *options])
    return read(root)


def read(root: Path) -> dict[str, Any]:
    return json.loads(RunFolder.of(root).frontier.read_text(encoding="utf-8"))


def point(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in content["points"] if one["name"] == name)


def between(root: Path, share: float) -> None:
    """A checkpoint part of the way from the SFT model to the best one."""
    folder = RunFolder.of(root)
    start, end = (AutoModelForCausalLM.from_pretrained(path) for path in (folder.sft, folder.best_policy))
    with torch.no_grad():
        for mine, theirs in zip(start.parameters(), end.parameters(), strict=True):
            mine.lerp_(theirs, share)
    target = folder.ckpts / f"checkpoint_{round(share * 10)}" / "hf_model"
    start.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder.sft).save_pretrained(target)


def unwanted(*_: Any, **__: Any) -> None:
    raise AssertionError("loaded a model")


@pytest.fixture(scope="module")
def whole_root(run_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of policy, two reward models (of the same weights), and a checkpoint that was not finished."""
    root = tmp_path_factory.mktemp("frontier") / "run"
    for part in ("ckpts", "data"):
        shutil.copytree(run_root / part, root / part)
    folder = RunFolder.of(root)
    for share in (0.3, 0.6):
        between(root, share)
    shutil.copytree(folder.best_policy, folder.ckpts / "checkpoint_10" / "hf_model")
    (folder.ckpts / "checkpoint_10" / "trainer_state.json").write_text('{"iter_count": 10}')
    shutil.copytree(folder.ckpts / "checkpoint_10", folder.ckpts / "rft" / "best_checkpoint")
    (folder.ckpts / "checkpoint_20").mkdir()
    shutil.copytree(folder.reward_model, folder.second_reward_model)
    return root


@pytest.fixture(scope="module")
def content(whole_root: Path) -> dict[str, Any]:
    return run(whole_root)


def test_points_have_what_the_report_reads(content: dict[str, Any]) -> None:
    assert content["format"] == 1 and content["posts"] == 10 and content["split"] == "test"
    assert content["decoding_text"] == "sampled at temperature 1, no top-k or top-p, at most 12 new tokens"
    names = [
        "sft",
        *(f"best of {n}" for n in range(2, 7)),
        "ppo",
        "checkpoint_3",
        "checkpoint_6",
        "checkpoint_10",
        "rft",
    ]
    assert [one["name"] for one in content["points"]] == names
    for one in content["points"]:
        for name in ("kl", "reward", "second_reward", "rouge1", "rouge2", "rougeL", "rouge_average", "response_tokens"):
            assert set(one[name]) == INTERVAL and one[name]["n"] == 10, (one["name"], name)
        assert one["gold"] is None
    assert [one["step"] for one in content["points"]] == [None] * 7 + [3, 6, 10, 10]
    assert point(content, "best of 4")["kl"]["mean"] == pytest.approx(math.log(4) - 0.75)
    assert point(content, "best of 4")["kl_kind"] == "analytic upper bound"
    assert point(content, "ppo")["kl_kind"] == "estimated"


def test_numbers_hang_together(content: dict[str, Any]) -> None:
    rewards = [one["reward"]["mean"] for one in content["points"][:6]]
    assert rewards == sorted(rewards) and rewards[0] < rewards[-1]
    for one in content["points"]:  # the second reward model has the first one's weights
        assert one["second_reward"]["mean"] == pytest.approx(one["reward"]["mean"], abs=1e-5)
    kls = {name: point(content, name)["kl"]["mean"] for name in ("sft", "checkpoint_3", "checkpoint_6", "ppo")}
    assert kls["sft"] == 0 < kls["checkpoint_3"] < kls["checkpoint_6"] < kls["ppo"]
    same = [{**point(content, name), "name": "", "kind": "", "step": 0} for name in ("ppo", "checkpoint_10", "rft")]
    assert same[0] == same[1] == same[2]


def test_curves_are_fitted_to_distinct_points(content: dict[str, Any]) -> None:
    fits = {(one["kind"], one["measure"]): one for one in content["fits"]}
    kinds = ("best_of_n", "rl")
    assert set(fits) == {(kind, measure) for kind in kinds for measure in ("reward", "second_reward")}
    assert fits["best_of_n", "reward"]["points"] == 5  # n of 2 to 6
    assert fits["rl", "reward"]["points"] == 3  # checkpoint_10 is the best one, and counts once
    assert set(fits["rl", "reward"]["alpha"]) == INTERVAL and "log d" in fits["rl", "reward"]["formula"]
    assert content["fits_refused"] == [] and content["run"]["left_out"] == []


def test_what_is_finished_is_not_done_again(
    whole_root: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampled, "load_policy", unwanted)
    monkeypatch.setattr(frontier.RewardScorer, "load", unwanted)
    again = run(whole_root)
    assert again["points"] == content["points"] and again["fits"] == content["fits"]
    # 3 × 20 + 60 samples (ppo shares its own with two others), KLs of 3 × 20, and two scores of each; the second reward
    # model's weights are the first one's, so the first run already took its scores from there.
    assert (content["run"]["reused"], again["run"]["reused"]) == (120, 120 + 60 + 2 * 120)


def test_an_interruption_changes_nothing(
    whole_root: Path, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    shutil.copytree(whole_root, root, ignore=shutil.ignore_patterns(".cache", "frontier.json"))
    calls, generate = [], sampled.generate_texts

    def killed(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(*args, **options)

    monkeypatch.setattr(sampled, "generate_texts", killed)
    with pytest.raises(KeyboardInterrupt):
        run(root)
    assert not RunFolder.of(root).frontier.exists()
    assert run(root)["points"] == content["points"]
    monkeypatch.setattr(sampled, "load_policy", unwanted)
    with pytest.raises(AssertionError, match="loaded a model"):
        run(root, "--overwrite")


def test_changed_weights_are_sampled_anew_and_no_others(
    whole_root: Path, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    shutil.copytree(whole_root, root)
    folder = RunFolder.of(root)
    shutil.copytree(folder.sft, folder.ckpts / "checkpoint_3" / "hf_model", dirs_exist_ok=True)
    loaded, load = [], sampled.load_policy
    monkeypatch.setattr(sampled, "load_policy", lambda path, *rest: loaded.append(path) or load(path, *rest))
    changed = run(root, "--models", f"mine={folder.ckpts / 'checkpoint_6' / 'hf_model'}")
    assert loaded == []  # SFT's own weights: known, and no KL to estimate
    assert point(changed, "checkpoint_3")["kl"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 10}
    assert point(changed, "checkpoint_3")["reward"] == pytest.approx(point(changed, "sft")["reward"])
    assert point(changed, "checkpoint_6") == point(content, "checkpoint_6")
    assert {**point(changed, "mine"), "step": 6, "kind": "", "name": ""} == {
        **point(content, "checkpoint_6"),
        "kind": "",
        "name": "",
    }
    assert [one["why"][:2] for one in changed["fits_refused"]] == ["2 ", "2 "]
    between(root, 0.5)
    run(root)
    assert loaded == [str(folder.ckpts / "checkpoint_5" / "hf_model"), str(folder.sft)]


def test_what_is_not_there_is_said(run_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("ckpts/sft", "ckpts/reward_model", "data"):
        shutil.copytree(run_root / part, tmp_path / part)
    tokenizer = train_tokenizer(["quite other words, of another kind"] * 9, OTHER.vocab_size, OTHER.max_positions)
    random_gpt_neo(tokenizer, OTHER, seed=0).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    content = run(
        tmp_path, "--models", f"other={tmp_path / 'other'}", "--samples", "2", "--second_reward_model", "none"
    )
    left_out = content["run"]["left_out"]
    assert [line[:9] for line in left_out] == ["No PPO: c", "No RFT: c", "No other:"]
    assert "trlx_gptneo_rft_summarization.py" in left_out[1]
    assert [one["name"] for one in content["points"]] == ["sft", "best of 2"]
    assert {one["why"].split()[0] for one in content["fits_refused"]} == {"0", "1"}
    printed = capsys.readouterr().out
    assert all(line in printed for line in left_out) and "KL against reward" in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--reward_label", "POSITIVE"), "no text classifier is among the reward models: leave it out"),
        (("--sft", "nowhere/at/all"), "no SFT model in nowhere/at/all"),
        (("--models", "ppo=x"), "'ppo' is the name of another policy"),
        (("--models", "mine"), "'mine' is not name=path"),
        (("--models", "mine=nowhere/at/all"), "check the path in --models"),
        (("--samples", "1"), "--samples must be at least 2, not 1"),
        (("--max_new_tokens", "200"), "leaves no room"),
        (("--reward_model", "nowhere/at/all"), "no reward model in nowhere/at/all"),
    ],
)
def test_bad_input_is_one_line(whole_root: Path, options: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        frontier.main(["--root", str(whole_root), *SMALL, *SHORT, *options])


def test_scores_by_one_label_are_not_kept_for_another(classified_root: Path) -> None:
    def reward(label: str) -> float:
        small = ("--limit", "3", "--samples", "2", "--reward_label", label)
        return point(run(classified_root, *small), "sft")["reward"]["mean"]

    assert reward("POSITIVE") == pytest.approx(-reward("NEGATIVE"), abs=1e-5)


def test_checkpoints_are_found_in_order_and_thinned(whole_root: Path) -> None:
    assert list(checkpoints_of(RunFolder.of(whole_root).ckpts)) == [3, 6, 10]
    policies, _ = find_policies(RunFolder.of(whole_root), None, "", checkpoints=1)
    assert [policy.name for policy in policies] == ["sft", "ppo", "checkpoint_10", "rft"]
    assert spaced([10, 20, 30, 40, 50, 60], 3) == [20, 40, 60]
    assert spaced([10, 20, 30, 40, 50], 2) == [20, 50]
    assert spaced([1, 2], None) == spaced([1, 2], 5) == [1, 2]


def test_a_policy_is_at_no_distance_from_itself(whole_root: Path, tmp_path: Path) -> None:
    path = str(RunFolder.of(whole_root).sft)
    sampler = Sampler(
        tokenizer=AutoTokenizer.from_pretrained(path),
        prompts=["POST: my cat left\nTL;DR:", "POST: the dog sold my car and left\nTL;DR:"],
        max_new_tokens=12,
        batch_size=3,
        seed=1,
        dtype=torch.float32,
        device=torch.device("cpu"),
        progress=Progress(tmp_path / "work", resume=True),
    )
    samples = sampler.draw_tracked("sft", path, "a", 20)
    first, third = sampler.kl_to(lambda: sampler.load("sft", path), "a", "sft", samples)
    assert first == pytest.approx([0, 0], abs=1e-4) and third == pytest.approx([0, 0], abs=1e-6)
    assert len(samples.texts) == 40 and len(set(samples.texts)) > 10
    for text, ended, tokens, ids in zip(samples.texts, samples.ended, samples.tokens, samples.ids, strict=True):
        assert tokens == len(ids) <= 12 and (ended or tokens == 12)
        assert "<|endoftext|>" not in text
    # Both ways of drawing are of one distribution, and of one form.
    plain = sampler.draw("sft", path, "a", 20)
    assert np.mean(plain.tokens) == pytest.approx(np.mean(samples.tokens), abs=2.5)


def test_measures_are_of_the_right_post() -> None:
    facts = [{"name": "place", "text": "Denver"}]
    posts = [
        Post("a", "POST: x\nTL;DR:", "I moved to Denver.", extra={"facts": facts}),
        Post("b", "POST: y\nTL;DR:", "The cat left.", extra={"facts": [{"name": "wish", "text": "cat"}]}),
    ]
    texts = [" I moved to Denver.", " The cat left.", " The cat left.", " I moved to Denver."]
    samples = Samples(2, texts, [True, True, True, False], [5, 4, 4, 5])
    found = text_measures(get_task("miniature"), posts, samples)
    assert found["rouge1"].tolist() == [[1, 0], [1, 0]]
    # Gold: all facts stated, 1; none, 0; and in the last the invented place (0.25) and the missing end (0.1) too.
    assert found["gold"] == pytest.approx(np.array([[1, 0], [1, -0.35]]))
    assert found["response_tokens"].tolist() == [[5, 4], [4, 5]]
    plain = text_measures(get_task("tldr"), posts, samples)
    assert "gold" not in plain
