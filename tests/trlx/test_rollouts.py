"""From responses to rewards: where a score lands, dense scores, scaling, stop sequences, responses that were cut."""

import string
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import END, EOS, ppo_config
from tiny_runs import lasts, logged, make_trainer, run


def ended(element: Any) -> bool:
    return bool(element.response_tensor[-1] == EOS)


def bias_to_eos(trainer: Any) -> None:
    """From now on about one token in seven is EOS."""
    head = trainer.policy.get_output_embeddings()
    head.register_forward_hook(lambda _, __, logits: logits + 3.4 * torch.eye(logits.shape[-1])[EOS])


def ragged(tmp_path: Path, tokenizer_folder: str, reward_fn: Any, stops: Any = None, **overrides: Any) -> Any:
    """16 rollouts of which some end early and some are cut."""
    config = ppo_config(tmp_path, tokenizer_folder, **{"method__init_kl_coef": 0.0, **overrides})
    trainer = make_trainer(config, reward_fn=reward_fn, stop_sequences=stops)
    bias_to_eos(trainer)
    trainer.make_experience(16)
    return trainer


def numbered_scores(outputs: list[str], **_: Any) -> list[float]:
    return [1.0 + i for i in range(len(outputs))]


def test_the_score_is_on_the_last_real_token_of_every_row(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = ragged(tmp_path, tokenizer_folder, numbered_scores)
    rows = list(trainer.store)
    assert len({len(row.response_tensor) for row in rows}) > 1  # ragged
    assert any(map(ended, rows)) and not all(map(ended, rows))
    assert lasts(rows) == [1.0 + i % 8 for i in range(16)]  # two chunks of 8
    for row in rows:
        assert row.rewards[:-1].eq(0).all()
        assert len(row.rewards) == len(row.response_tensor) == len(row.logprobs) == len(row.values)
        assert not row.response_tensor[:-1].eq(EOS).any()  # EOS is last or absent
    # and so it is in the batches that the loss sees
    for batch in trainer.create_train_dataloader():
        last = batch.response_mask.sum(dim=1) - 1
        places = torch.arange(batch.rewards.shape[1])
        assert batch.rewards.ne(0).equal(places == last.unsqueeze(1))


def test_outputs_carry_the_end_only_where_there_was_one(tmp_path: Path, tokenizer_folder: str) -> None:
    seen: list[str] = []

    def reward_fn(outputs: list[str], samples: list[str], prompts: list[str], **_: Any) -> list[float]:
        assert samples == [prompt + output for prompt, output in zip(prompts, outputs, strict=True)]
        seen.extend(outputs)
        return [0.0] * len(outputs)

    trainer = ragged(tmp_path, tokenizer_folder, reward_fn)
    rows = list(trainer.store)
    assert [output.endswith(END) for output in seen] == [ended(row) for row in rows]
    assert all(output.count(END) <= 1 for output in seen)
    assert logged(trainer, "rollout/eos_rate") == [pytest.approx(sum(map(ended, rows)) / 16)]
    tokens = sum(len(row.response_tensor) for row in rows)
    assert logged(trainer, "rollout/response_length") == [pytest.approx(tokens / 16)]


def test_dense_scores_are_the_rewards_token_by_token(tmp_path: Path, tokenizer_folder: str) -> None:
    def reward_fn(outputs: list[str], **_: Any) -> list[list[float]]:
        return [[i + t / 10 for t in range(8)] for i in range(len(outputs))]  # as long as the longest: cut to each row

    rows = list(ragged(tmp_path, tokenizer_folder, reward_fn).store)
    for i, row in enumerate(rows):
        expected = [i % 8 + t / 10 for t in range(len(row.response_tensor))]
        assert row.rewards.tolist() == pytest.approx(expected)


def test_short_dense_scores_are_filled_with_0(tmp_path: Path, tokenizer_folder: str) -> None:
    for row in ragged(tmp_path, tokenizer_folder, lambda outputs, **_: [[2.0, 1.0]] * len(outputs)).store:
        assert row.rewards.tolist() == ([2.0, 1.0] + [0.0] * len(row.rewards))[: len(row.rewards)]


def test_scores_of_one_number_each_are_no_dense_ones(tmp_path: Path, tokenizer_folder: str) -> None:
    for row in ragged(tmp_path, tokenizer_folder, lambda outputs, **_: torch.full((len(outputs), 1), 2.0)).store:
        assert row.rewards.tolist() == [0.0] * (len(row.rewards) - 1) + [2.0]


@pytest.mark.parametrize(
    ("overrides", "scores", "expected"),
    [
        ({"method__cliprange_reward": 2}, [-5.0, -1.0, 0.0, 7.0], [-2.0, -1.0, 0.0, 2.0]),
        ({"method__cliprange_reward": None}, [-50.0, 50.0, 0.0, 0.0], [-50.0, 50.0, 0.0, 0.0]),
        # (0, 0, 3, 3): distances 1.5, so the unbiased variance is 4 · 2.25 / 3 = 3
        ({"method__scale_reward": "running"}, [0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 3**0.5, 3**0.5]),
        ({"method__scale_reward": "ref"}, [0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 3**0.5, 3**0.5]),
        # clipping comes first: (−1, −1, 1, 1) has the unbiased variance 4 / 3
        (
            {"method__scale_reward": "running", "method__cliprange_reward": 1},
            [-9.0, -9.0, 9.0, 9.0],
            [-(0.75**0.5), -(0.75**0.5), 0.75**0.5, 0.75**0.5],
        ),
        (
            {"method__scale_reward": "ref", "method__ref_mean": 1.0, "method__ref_std": 4.0},
            [0, 4, 8, 2],
            [0, 1, 2, 0.5],
        ),
        ({"method__scale_reward": "ignored"}, [0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 3.0, 3.0]),
    ],
)
def test_clipping_and_scaling(
    tmp_path: Path, tokenizer_folder: str, overrides: dict[str, Any], scores: list[float], expected: list[float]
) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, method__init_kl_coef=0.0, method__chunk_size=4, **overrides)
    trainer = make_trainer(config, reward_fn=lambda **_: scores)
    trainer.make_experience(4)
    assert lasts(trainer.store) == pytest.approx(expected, rel=1e-5)


def test_the_reference_spread_stays_that_of_the_first_chunk(tmp_path: Path, tokenizer_folder: str) -> None:
    chunks = iter([[0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 30.0, 30.0]])
    config = ppo_config(
        tmp_path,
        tokenizer_folder,
        method__init_kl_coef=0.0,
        method__chunk_size=4,
        method__scale_reward="ref",
        method__cliprange_reward=None,
    )
    trainer = make_trainer(config, reward_fn=lambda **_: next(chunks))
    assert trainer.ref_mean is trainer.ref_std is None
    trainer.make_experience(8)
    assert (trainer.ref_mean, trainer.ref_std) == (pytest.approx(1.5), pytest.approx(3**0.5))
    assert lasts(trainer.store)[4:] == pytest.approx([0, 0, 30 / 3**0.5, 30 / 3**0.5], rel=1e-5)
    # 0 0 3 3 0 0 30 30: mean 8.25, squares 1818, so 1818 − 8 · 8.25² = 1273.5 over 7
    assert trainer.running_moments.mean == pytest.approx(8.25)
    assert trainer.running_moments.std == pytest.approx((1273.5 / 7) ** 0.5)
    assert logged(trainer, "rollout_scores/running_mean") == [pytest.approx(8.25)]


def test_dense_scores_are_scaled_by_the_spread_of_their_sums(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(
        tmp_path, tokenizer_folder, method__init_kl_coef=0.0, method__chunk_size=4, method__scale_reward="running"
    )
    trainer = make_trainer(config, reward_fn=lambda **_: [[0.0], [0.0], [1.0, 2.0], [2.0, 1.0]])
    trainer.policy.get_output_embeddings().register_forward_hook(  # EOS comes at 8 tokens at the earliest: never
        lambda _, __, logits: logits - 1e9 * torch.eye(logits.shape[-1])[EOS]
    )
    trainer.make_experience(4)
    assert trainer.store[2].rewards[:3].tolist() == pytest.approx([1 / 3**0.5, 2 / 3**0.5, 0], rel=1e-5)


@pytest.mark.parametrize("scale", [None, "ref"])
def test_a_missing_end_replaces_the_score(tmp_path: Path, tokenizer_folder: str, scale: str | None) -> None:
    trainer = ragged(
        tmp_path,
        tokenizer_folder,
        numbered_scores,
        method__missing_eos_penalty=-7.0,
        method__scale_reward=scale,
        method__ref_mean=0.0,
        method__ref_std=2.0,
    )
    rows, by = list(trainer.store), 2.0 if scale else 1.0
    assert any(map(ended, rows)) and not all(map(ended, rows))
    assert lasts(rows) == [(1.0 + i % 8) / by if ended(row) else -7.0 for i, row in enumerate(rows)]


def test_a_missing_end_replaces_dense_scores_with_one_number(tmp_path: Path, tokenizer_folder: str) -> None:
    def reward_fn(outputs: list[str], **_: Any) -> list[list[float]]:
        return [[1.0] * 8 for _ in outputs]

    rows = list(ragged(tmp_path, tokenizer_folder, reward_fn, method__missing_eos_penalty=-7.0).store)
    for row in rows:
        length = len(row.rewards)
        assert row.rewards.tolist() == ([1.0] * length if ended(row) else [0.0] * (length - 1) + [-7.0])


STOPS = list(string.ascii_letters)


def test_stop_sequences_end_a_response(tmp_path: Path, tokenizer_folder: str) -> None:
    seen: list[str] = []

    def reward_fn(outputs: list[str], **_: Any) -> list[float]:
        seen.extend(outputs)
        return [0.0] * len(outputs)

    trainer = ragged(tmp_path, tokenizer_folder, reward_fn, stops=STOPS, method__missing_eos_penalty=-7.0)
    rows, decode = list(trainer.store), trainer.tokenizer.decode
    stopped = []
    for row, output, last in zip(rows, seen, lasts(rows), strict=True):
        whole = decode(row.response_tensor, skip_special_tokens=True)
        at_stop = whole[-1:] in STOPS
        stopped.append(at_stop)
        assert not any(stop in whole[:-1] for stop in STOPS)  # the ids end with the token that completed the stop
        text = whole[:-1].rstrip() if at_stop else whole
        assert output == text + (END if at_stop or ended(row) else "")
        assert last == (0.0 if at_stop or ended(row) else -7.0)  # a stop is an end
    assert any(stopped) and not all(stopped)
    rate = sum(stop or ended(row) for stop, row in zip(stopped, rows, strict=True)) / 16
    assert logged(trainer, "rollout/eos_rate") == [pytest.approx(rate)]


def test_a_run_with_stop_sequences_trains(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = run(ppo_config(tmp_path, tokenizer_folder, train__epochs=1), stop_sequences=STOPS)
    assert trainer.iter_count == 4
    assert logged(trainer, "ratio")[0] == pytest.approx(1.0, abs=1e-5)


def test_decode(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder), stop_sequences=["!"])
    ids = lambda text: trainer.tokenizer(text)["input_ids"]  # noqa: E731
    prompts = torch.tensor([[EOS, *ids("hi")], ids("you")])
    samples = torch.tensor([[EOS, *ids("hi a"), EOS, EOS], ids("you b!c")[:7]])
    got = trainer.decode(prompts, samples, append_eos_token=True)
    assert got == (["hi a" + END, "you b" + END], ["hi", "you"], [" a" + END, " b" + END])
    assert trainer.decode(prompts, samples)[2] == [" a", " b"]
    assert trainer.decode(prompts[1:], samples[1:, :5], append_eos_token=True)[2] == [" b"]  # cut: no end
    rows = [torch.tensor(ids("hi a")), torch.tensor([*ids("you"), EOS])]
    assert trainer.decode(rows, rows, [2, 3], append_eos_token=True) == (
        ["hi a", "you" + END],
        ["hi", "you"],
        [" a", END],
    )


def test_what_people_read_off_a_trainer(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder, method__gen_kwargs__temperature=[0.5, 0.9]))
    assert trainer.kl_ctl.value == 0.001 and trainer.mean_kl == 0.0 and trainer.nth_evaluation == 0
    assert trainer.generate_sweep_kwarg == ("temperature", [0.5, 0.9])
    assert trainer.generate_kwargs["temperature"] == 0.5 == trainer.generate_experience_kwargs["temperature"]
    batch = next(trainer.prompt_iterator)
    assert set(batch) == {"input_ids", "attention_mask", "tag"} and len(batch["tag"]) == 8
    ids, mask = batch["input_ids"], batch["attention_mask"]
    samples = trainer.generate(ids, mask)
    assert samples.shape[0] == 8 and torch.equal(samples[:, : ids.shape[1]], ids)
    assert trainer.generate_eval(ids, mask, max_new_tokens=2).shape[1] <= ids.shape[1] + 2
    with torch.no_grad():
        torch.testing.assert_close(
            trainer.ref_model(ids, attention_mask=mask).logits, trainer.model(ids, attention_mask=mask).logits
        )
    assert len(trainer.store) == 0 and trainer.running_moments.count == 0
