"""Evaluation during training: sweeps over generation options, names of metrics, tables, the best model."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_engine import END, ppo_config
from tiny_runs import PROMPTS, logged, make_trainer, run

from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.trainer.evaluator import best_of_sweep
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics


def length(outputs: list[str], **_: Any) -> list[float]:
    return [float(len(output.removesuffix(END))) for output in outputs]


def table(trainer: Any, step: int) -> list[dict[str, Any]]:
    """The samples that the tracker wrote."""
    return pd.read_csv(trainer.logging_dir / "eval" / f"step_{step:06d}.csv").to_dict("records")  # type: ignore[return-value]


def test_one_swept_option(tmp_path: Path, tokenizer_folder: str) -> None:
    calls: list[int] = []

    def reward_fn(outputs: list[str], **_: Any) -> list[float]:
        calls.append(len(outputs))
        return length(outputs)

    config = ppo_config(tmp_path, tokenizer_folder, train__epochs=1, method__gen_kwargs__max_new_tokens=[2, 8])
    trainer = run(config, reward_fn=reward_fn, metric_fn=lambda outputs, **_: {"words": [1.0] * len(outputs)})
    first = read_metrics(trainer.logging_dir)[0]
    assert {"reward/mean@max_new_tokens=2", "reward/mean@max_new_tokens=8", "metrics/words@max_new_tokens=8"} <= set(
        first
    )
    assert "reward/mean" not in first
    assert first["reward/mean@max_new_tokens=2"] <= 2 < first["reward/mean@max_new_tokens=8"] <= 8
    assert calls == [4, 4, 8, 8, 4, 4]  # each point is scored by itself
    assert logged(trainer, "rollout/response_length")[0] <= 2  # rollouts take the first value
    best = json.loads((tmp_path / "best_checkpoint" / "trainer_state.json").read_text())["best_reward"]
    last = read_metrics(trainer.logging_dir)[-1]
    assert best == trainer.best_reward == last["reward/mean@max_new_tokens=8"]  # the best point's


def test_two_swept_options_and_rollouts_with_their_own(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(
        tmp_path,
        tokenizer_folder,
        train__epochs=1,
        method__gen_kwargs__max_new_tokens=[2, 3],
        method__gen_kwargs__temperature=[0.5, 1.0],
        method__gen_experience_kwargs={"max_new_tokens": 5, "do_sample": True, "temperature": 0.7},
    )
    trainer = run(config, reward_fn=length)
    names = [name for name in read_metrics(trainer.logging_dir)[0] if name.startswith("reward/mean")]
    assert sorted(names) == [f"reward/mean@max_new_tokens={n}@temperature={t}" for n in (2, 3) for t in (0.5, 1.0)]
    assert 3 < logged(trainer, "rollout/response_length")[0] <= 5
    assert trainer.temperature == 0.7 and logged(trainer, "ratio")[0] == pytest.approx(1.0, abs=1e-5)
    rows = table(trainer, 0)
    assert len(rows) == 4 * 4
    assert {(row["max_new_tokens"], row["temperature"]) for row in rows} == {(n, t) for n in (2, 3) for t in (0.5, 1.0)}
    assert all(set(row) >= {"prompt", "output", "reward"} for row in rows)
    assert {row["prompt"] for row in rows} == {row["prompt"] for row in PROMPTS[:4]}


def test_the_best_point_decides() -> None:
    assert best_of_sweep({"reward/mean": 2.0, "metrics/reward": 9.0}) == 2.0
    assert best_of_sweep({"reward/mean@beta=1": 2.0, "reward/mean@beta=2": 3.0, "reward/std@beta=2": 9.0}) == 3.0
    assert best_of_sweep({"metrics/reward@beta=1": 2.0}) == 2.0
    assert best_of_sweep({"metrics/rewards": 2.0}) is None


def test_the_best_model_is_kept_when_a_later_one_is_worse(tmp_path: Path, tokenizer_folder: str) -> None:
    values = iter([1.0, 5.0, 3.0])  # at steps 0, 4, 8

    def reward_fn(outputs: list[str], **_: Any) -> list[float]:
        return [next(values)] * 4 if len(outputs) == 4 else [0.0] * len(outputs)

    trainer = run(ppo_config(tmp_path, tokenizer_folder, train__eval_interval=4), reward_fn=reward_fn)
    assert logged(trainer, "reward/mean") == [1.0, 5.0, 3.0] and trainer.nth_evaluation == 3
    state = json.loads((tmp_path / "best_checkpoint" / "trainer_state.json").read_text())
    assert (state["iter_count"], state["best_reward"]) == (4, 5.0)


def test_metrics_may_be_lists_or_numbers_and_see_the_metadata(tmp_path: Path, tokenizer_folder: str) -> None:
    def metric_fn(samples: list[str], prompts: list[str], outputs: list[str], tag: list[int]) -> dict[str, Any]:
        assert all(sample.startswith(prompt) for sample, prompt in zip(samples, prompts, strict=True))
        return {"tag": tag, "one": 1.5}

    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder), reward_fn=length, metric_fn=metric_fn)
    trainer.add_eval_pipeline(PromptPipeline(PROMPTS, 24, trainer.tokenizer))
    stats = trainer.evaluate()
    assert stats["metrics/tag"] == 9.5 and stats["metrics/one"] == 1.5  # tags 0 … 19
    assert [row["tag"] for row in sorted(table(trainer, 0), key=lambda row: row["tag"])] == list(range(20))
    assert "one" not in table(trainer, 0)[0]


def test_a_swept_option_without_values_is_refused(tmp_path: Path, tokenizer_folder: str) -> None:
    with pytest.raises(UserError, match=r"gen_kwargs\.temperature"):
        make_trainer(ppo_config(tmp_path, tokenizer_folder, method__gen_kwargs__temperature=[]))


def test_a_sweep_is_not_for_rollouts(tmp_path: Path, tokenizer_folder: str) -> None:
    own = {"max_new_tokens": 4, "temperature": [0.5, 1.0], "do_sample": True}
    with pytest.raises(UserError, match="temperature"):
        run(ppo_config(tmp_path, tokenizer_folder, method__gen_experience_kwargs=own))
