"""What docs/migrating.md promises: trlX's way of making experience, and its checkpoints."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import ppo_config, random_model
from transformers import AutoModelForCausalLM, GPT2Config

import trlx
from trlx.data.ppo_types import PPORLElement
from trlx.models.modeling_ppo import AutoModelForCausalLMWithValueHead
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.modeling import logprobs_of_labels

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "migrating.md"


@register_trainer
class TrlxStyleExperience(AcceleratePPOTrainer):
    """Makes its rollouts with public names only, in whole padded rows, as scripts for trlX do."""

    def make_experience(self, num_rollouts: int = 1024, iter_count: int = 0) -> None:
        made = 0
        while made < num_rollouts:
            assert self.prompt_iterator is not None
            batch = next(self.prompt_iterator)
            ids, mask = batch["input_ids"], batch["attention_mask"]
            samples = self.generate(ids, mask)
            texts, prompts, outputs = self.decode(ids, samples, append_eos_token=True)
            scores = self.reward_fn(samples=texts, prompts=prompts, outputs=outputs, tokenizer=self.tokenizer)  # type: ignore[misc]
            whole = torch.cat([mask, torch.ones_like(samples[:, ids.shape[1] :])], dim=1)
            with torch.no_grad():
                now = self.model(samples, attention_mask=whole)
                reference = self.ref_model(samples, attention_mask=whole).logits
            temperature = self.generate_experience_kwargs["temperature"]
            new = logprobs_of_labels(now.logits[:, :-1] / temperature, samples[:, 1:])
            old = logprobs_of_labels(reference[:, :-1] / temperature, samples[:, 1:])
            start = ids.shape[1] - 1
            for row, score in enumerate(scores):
                rewards = -self.kl_ctl.value * (new - old)[row, start:]
                rewards[-1] += score  # at the padded end, where trlX's stood
                self.push_to_store(
                    [
                        PPORLElement(
                            query_tensor=ids[row],
                            response_tensor=samples[row, ids.shape[1] :],
                            logprobs=new[row, start:],
                            values=now.value[row, start:-1],
                            rewards=rewards,
                        )
                    ]
                )
            made += len(samples)


def lengths(samples: list[str], outputs: list[str], **_: Any) -> list[float]:
    return [float(len(output)) for output in outputs]


def test_experience_made_the_old_way_trains_the_same(tmp_path: Path, tokenizer_folder: str) -> None:
    steps = {}
    for name in ("AcceleratePPOTrainer", "TrlxStyleExperience"):
        config = ppo_config(tmp_path / name, tokenizer_folder, train__trainer=name, train__epochs=1)
        prompts = ["hello ", "a longer prompt "] * 8
        trainer: Any = trlx.train(reward_fn=lengths, prompts=prompts, eval_prompts=prompts[:2], config=config)
        lines = [json.loads(line) for line in (trainer.logging_dir / "metrics.jsonl").read_text().splitlines()]
        steps[name] = [line for line in lines if "losses/total_loss" in line]
    ours, theirs = steps.values()
    assert len(ours) == len(theirs) == 4
    for one, other in zip(ours, theirs, strict=True):
        for key in ("losses/total_loss", "losses/policy_loss", "returns/mean", "ratio", "gradient_norm"):
            assert one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-5)


def snippet() -> str:
    (code,) = re.findall(r"<!-- tested: convert -->\n```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return code


@pytest.mark.parametrize("prefix", ["base_model.", ""])
def test_an_old_checkpoint_is_taken_over(
    prefix: str, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model("gpt2")
    assert isinstance(model.config, GPT2Config)
    heads = {f"v_head.{name}": torch.randn(shape) for name, shape in HEAD_SHAPES.items()}
    weights = {f"{prefix}{name}": value for name, value in model.state_dict().items()} | heads
    if prefix:  # what trlX's hydra kept besides
        weights["frozen_head.decoder_blocks.0.ln_1.weight"] = torch.ones(32)
    old = tmp_path / "old" / "hf_model"
    old.mkdir(parents=True)
    torch.save(weights, old / "pytorch_model.bin")
    model.config.save_pretrained(old)
    tokenizer.save_pretrained(old)
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet(), str(GUIDE), "exec"), {})
    assert sorted(os.listdir("converted"))[-1] == "tokenizer_config.json"
    ids = torch.arange(1, 8).unsqueeze(0)
    plain = AutoModelForCausalLM.from_pretrained("converted").eval()
    with_head = AutoModelForCausalLMWithValueHead.from_pretrained("converted").eval()
    with torch.no_grad():
        expected = model(ids).logits
        assert torch.equal(plain(ids).logits, expected)
        assert torch.allclose(with_head(ids).logits, expected, atol=1e-5)
    assert {name: torch.equal(with_head.state_dict()[name], value) for name, value in heads.items()} == dict.fromkeys(
        heads, True
    )


HEAD_SHAPES = {"0.weight": (64, 32), "0.bias": (64,), "2.weight": (1, 64), "2.bias": (1,)}
