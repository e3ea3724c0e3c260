"""The baseline: PPO of a language model with a value head as one writes it down, with nothing shared or left out.

transformers' `generate` with its cache; a forward of the policy and one of a separate reference over all positions;
full forwards with logits at all positions in every epoch; the same losses and AdamW. It shares no mathematics with
the engine, so that the two check each other.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from benchmarks.timing import Iteration, Stopwatch
from benchmarks.workload import Workload, prompts, reward


@dataclass
class Experience:
    """N rollouts: prompts of P tokens padded on the left, responses of R on the right. Masks: True = real token."""

    input_ids: Tensor  # (N, P + R)
    attention_mask: Tensor  # (N, P + R) long
    response_mask: Tensor  # (N, R)
    logprobs: Tensor  # (N, R)
    ref_logprobs: Tensor  # (N, R)
    values: Tensor  # (N, R)
    advantages: Tensor  # (N, R)
    returns: Tensor  # (N, R)

    def rows(self, indices: Tensor) -> Experience:
        """Some of the rollouts."""
        fields = dataclasses.fields(self)
        return Experience(**{item.name: getattr(self, item.name)[indices] for item in fields})


class PolicyWithValue(nn.Module):
    """A language model, and Linear(H, 2H), ReLU, Linear(2H, 1) on its last hidden state."""

    def __init__(self, base_model: PreTrainedModel):
        super().__init__()
        self.base_model = base_model
        hidden = base_model.config.hidden_size
        self.v_head = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, 1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (B, T, V), values (B, T)) at every position."""
        output = self.base_model(**_inputs(input_ids, attention_mask), output_hidden_states=True)
        return output.logits, self.v_head(output.hidden_states[-1]).squeeze(-1)


class PlainPPO:
    """PPO's four steps, one after the other."""

    def __init__(self, workload: Workload):
        self.workload = workload
        self.device = torch.device(workload.device)
        torch.manual_seed(workload.seed)
        self.tokenizer = AutoTokenizer.from_pretrained(f"{workload.folder}/tokenizer", padding_side="left")
        base: Any = AutoModelForCausalLM.from_pretrained(f"{workload.folder}/model", dtype=torch.float32)
        self.reference = copy.deepcopy(base).to(self.device).eval().requires_grad_(False)
        self.model = PolicyWithValue(base).to(self.device).train()
        freeze(base, workload.layers_unfrozen)
        config = workload.config(1)
        self.method: Any = config.method
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, **config.optimizer.kwargs)
        self.prompts, self.position = prompts(workload), 0

    def iterate(self) -> Iteration:
        """One iteration, timed."""
        watch, parts = Stopwatch(self.workload.device), []
        for _ in range(self.workload.chunks):
            parts.append(self._chunk(watch))
        with watch.phase("experience"):
            experience = _join(parts, self.tokenizer.pad_token_id)
            whiten(experience)
        for _ in range(self.workload.epochs):
            order = torch.randperm(len(experience.input_ids), device=self.device)
            for indices in order.split(self.workload.batch):
                self.train_step(experience.rows(indices), watch)
        return watch.finish(int(experience.response_mask.sum()))

    def _chunk(self, watch: Stopwatch) -> Experience:
        texts = [self.prompts[(self.position + i) % len(self.prompts)] for i in range(self.workload.chunk)]
        self.position += len(texts)
        with watch.phase("generate"):
            encoded = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
            query, query_mask = encoded["input_ids"], encoded["attention_mask"]
            response = self.generate(query, query_mask)
        with watch.phase("score"):
            outputs = self.tokenizer.batch_decode(response, skip_special_tokens=True)
            both = [text + " " + output for text, output in zip(texts, outputs, strict=True)]
            scores = torch.tensor(reward(samples=both, prompts=texts, outputs=outputs), device=self.device)
        with watch.phase("experience"):
            return self.experience(query, query_mask, response, scores)

    @torch.no_grad()
    def generate(self, query: Tensor, query_mask: Tensor) -> Tensor:
        """(B, R) responses by transformers' own loop."""
        model = self.model.base_model.eval()
        ends = {"pad_token_id": self.tokenizer.pad_token_id, "eos_token_id": self.tokenizer.eos_token_id}
        with self._autocast():
            output = model.generate(query, attention_mask=query_mask, **self.workload.gen_kwargs, **ends)
        self.model.train()
        return output[:, query.shape[1] :]

    @torch.no_grad()
    def experience(self, query: Tensor, query_mask: Tensor, response: Tensor, scores: Tensor) -> Experience:
        """Everything but whitened advantages of B responses: (B, P), (B, P), (B, R) and (B,)."""
        is_end = response.eq(self.tokenizer.eos_token_id).long()
        response_mask = (is_end.cumsum(1) - is_end).eq(0)
        input_ids = torch.cat([query, response], dim=1)
        attention_mask = torch.cat([query_mask, response_mask.long()], dim=1)
        logprobs, values = self.predict(input_ids, attention_mask, response.shape[1])
        with self._autocast():
            ref_logits = self.reference(**_inputs(input_ids, attention_mask)).logits
        ref_logprobs = logprobs_of(ref_logits, input_ids)[:, -response.shape[1] :]
        rewards = -self.method.init_kl_coef * (logprobs - ref_logprobs) * response_mask
        rewards[torch.arange(len(scores)), response_mask.sum(1) - 1] += scores
        advantages = advantages_of(rewards, values * response_mask, self.method.gamma, self.method.lam) * response_mask
        returns = (advantages + values) * response_mask
        return Experience(input_ids, attention_mask, response_mask, logprobs, ref_logprobs, values, advantages, returns)

    def predict(self, input_ids: Tensor, attention_mask: Tensor, response: int) -> tuple[Tensor, Tensor]:
        """(log-probabilities, values), both (B, R), of the last `response` tokens, from all positions."""
        with self._autocast():
            logits, values = self.model(input_ids, attention_mask)
        return logprobs_of(logits, input_ids)[:, -response:], values[:, -response - 1 : -1].float()

    def train_step(self, batch: Experience, watch: Stopwatch) -> tuple[float, float]:
        """One optimizer step; (loss, norm of the gradient before clipping)."""
        with watch.phase("forward"):
            loss = self.loss(batch)
        with watch.phase("backward"):
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.method.max_grad_norm)
        with watch.phase("optimizer"):
            self.optimizer.step()
        with watch.phase("backward"):
            self.optimizer.zero_grad()
        return loss.item(), norm.item()

    def loss(self, batch: Experience) -> Tensor:
        """PPO's clipped losses (Schulman et al. 2017), a mean over real tokens."""
        mask, method = batch.response_mask, self.method
        logprobs, values = self.predict(batch.input_ids, batch.attention_mask, mask.shape[1])
        ratio = torch.exp((logprobs - batch.logprobs) * mask)
        near_ratio = ratio.clamp(1 - method.cliprange, 1 + method.cliprange)
        policy = torch.maximum(-batch.advantages * ratio, -batch.advantages * near_ratio)
        near = batch.values + (values - batch.values).clamp(-method.cliprange_value, method.cliprange_value)
        value = 0.5 * torch.maximum((values - batch.returns) ** 2, (near - batch.returns) ** 2)
        return ((policy + method.vf_coef * value) * mask).sum() / mask.sum()

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[None]:
        half = self.workload.dtype != "float32"
        with torch.autocast(self.device.type, getattr(torch, self.workload.dtype), enabled=half):
            yield


def freeze(model: Any, layers_unfrozen: int) -> None:
    """Train the top blocks and the final norm; −1 trains all, tied embeddings too."""
    if layers_unfrozen < 0:
        return
    model.requires_grad_(False)
    model.transformer.ln_f.requires_grad_(True)
    for block in model.transformer.h[-layers_unfrozen:]:
        block.requires_grad_(True)


def logprobs_of(logits: Tensor, input_ids: Tensor) -> Tensor:
    """(B, T − 1) log-probability of every token but the first."""
    every = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    return every.gather(-1, input_ids[:, 1:].unsqueeze(-1)).squeeze(-1)


def advantages_of(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """(B, R) generalized advantage estimates; rewards and values are 0 at pads."""
    last, result = torch.zeros_like(values[:, 0]), []
    for t in range(values.shape[1] - 1, -1, -1):
        following = values[:, t + 1] if t + 1 < values.shape[1] else torch.zeros_like(last)
        last = rewards[:, t] + gamma * following - values[:, t] + gamma * lam * last
        result.append(last)
    return torch.stack(result[::-1], dim=1)


def whiten(experience: Experience) -> None:
    """Advantages to mean 0 and variance 1 over all real tokens, in place."""
    real = experience.advantages[experience.response_mask]
    scaled = (experience.advantages - real.mean()) / (real.var(unbiased=False) + 1e-8).sqrt()
    experience.advantages = scaled * experience.response_mask


def _inputs(input_ids: Tensor, attention_mask: Tensor) -> dict[str, Any]:
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": positions, "use_cache": False}


def _join(parts: list[Experience], pad_token_id: int) -> Experience:
    """Chunks as one; those of fewer tokens are padded as their rows are."""
    if len(parts) == 1:
        return parts[0]
    response = max(part.response_mask.shape[1] for part in parts)
    prompt = max(part.input_ids.shape[1] - part.response_mask.shape[1] for part in parts)
    columns: dict[str, list[Tensor]] = {item.name: [] for item in dataclasses.fields(Experience)}
    for part in parts:
        right = response - part.response_mask.shape[1]
        left = prompt - (part.input_ids.shape[1] - part.response_mask.shape[1])
        for name, column in columns.items():
            pads = (left, right) if name in ("input_ids", "attention_mask") else (0, right)
            filler = pad_token_id if name == "input_ids" else 0
            column.append(nn.functional.pad(getattr(part, name), pads, value=filler))
    return Experience(**{name: torch.cat(column) for name, column in columns.items()})
