"""Where a phase's rollouts wait to be trained on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from trlx.data.ppo_types import PPORLBatch, PPORLElement, collate, pack, unpack
from trlx.pipeline import BaseRolloutStore
from trlx.utils.errors import UserError
from trlx.utils.files import write_json


class PPORolloutStorage(BaseRolloutStore):
    """Rollouts of one rank.

    Args:
        pad_token_id: what pads are, in elements that come with some.
        padding_side: of prompts in such elements.
        eos_token_id: ends a response; where it is the pad too, the first of the pads at a row's end is real.
        device: where elements that come with pads are taken; None leaves them where they are.

    Attributes:
        history: the elements, without pads.
    """

    def __init__(
        self,
        pad_token_id: int,
        padding_side: str = "left",
        eos_token_id: int | None = None,
        device: torch.device | None = None,
    ):
        super().__init__()
        self.pad_token_id, self.padding_side, self.eos_token_id = pad_token_id, padding_side, eos_token_id
        self.device = device
        self.history: list[PPORLElement] = []

    def push(self, exps: Iterable[PPORLElement]) -> None:
        """Take elements over; those not marked clean are stripped of pads.

        Raises: UserError when an element's tensors do not fit together.
        """
        self.history += [exp if exp.clean else self._stripped(exp) for exp in exps]

    def clear_history(self) -> None:
        """Forget all."""
        self.history = []

    def export_history(self, location: str, only_text: bool = True) -> None:
        """Write the elements to `location/epoch-<time>.json`, a list of dicts of lists.

        Args:
            only_text: leave out all but the ids of prompts and responses.
        """
        names = ("query_tensor", "response_tensor", *(() if only_text else ("logprobs", "values", "rewards")))
        rows = [{name: getattr(element, name).tolist() for name in names} for element in self.history]
        write_json(Path(location) / f"epoch-{time.time()}.json", rows)

    def __getitem__(self, index: int) -> PPORLElement:
        return self.history[index]

    def __len__(self) -> int:
        return len(self.history)

    def create_loader(
        self,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
    ) -> DataLoader:
        """Batches as equal in size as can be, none above `batch_size`, each sorted by length.

        The order of rows within a batch changes no gradient, and microbatches of similar length waste less on pads.

        Args:
            generator: of the shuffled order; None draws from torch's global one.
        """
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        parts = order.tensor_split(max(math.ceil(len(self) / batch_size), 1))
        sampler = [sorted(part.tolist(), key=self._length) for part in parts]
        # A loader draws a seed for its workers whenever it starts: from a generator of its own, or a resumed run, which
        # starts its loader once more, would sample other responses.
        own = torch.Generator()
        return DataLoader(self, batch_sampler=sampler, collate_fn=self.collate, generator=own)  # type: ignore[arg-type]

    def collate(self, elements: list[PPORLElement]) -> PPORLBatch:
        """See `trlx.data.ppo_types.collate`."""
        return collate(elements, self.pad_token_id)

    def whole(self) -> PPORLBatch:
        """All elements in one batch, without the trunk's output."""
        return collate(self.history, self.pad_token_id, with_trunk=False)

    def set_advantages(self, advantages: Tensor, returns: Tensor) -> None:
        """Note each element's advantages and returns, both (N, R) in the order of `history`."""
        for element, advantage, value in zip(self.history, advantages, returns, strict=True):
            length = len(element.response_tensor)
            element.advantages, element.returns = advantage[:length], value[:length]

    def state(self) -> dict[str, Tensor] | None:
        """Tensors for a checkpoint, None when there is nothing."""
        return pack(self.history) if self.history else None

    def load_state(self, state: dict[str, Tensor] | None, device: torch.device | str) -> None:
        """Take back what `state` gave."""
        self.history = unpack(state, device) if state else []

    def _length(self, index: int) -> int:
        element = self.history[index]
        return len(element.query_tensor) + len(element.response_tensor)

    def _stripped(self, exp: PPORLElement) -> PPORLElement:
        """Without pads: those before (or after) the prompt, those after the response's end.

        Rewards of places after the end, where trlX's rollouts may have put the score, go to the last real token.
        """
        query, response = self._prompt(exp.query_tensor), self._response(exp.response_tensor)
        length = min(len(response), len(exp.logprobs), len(exp.values))
        if length == 0 or len(exp.rewards) == 0:
            raise UserError("a rollout pushed to the store must have a response with log-probs, values and rewards")
        rewards = torch.zeros(max(length, len(exp.rewards)), dtype=torch.float32, device=exp.rewards.device)
        rewards[: len(exp.rewards)] = exp.rewards.float()
        rewards[length - 1] += rewards[length:].sum()
        fields = (query, response[:length], exp.logprobs[:length], exp.values[:length], rewards[:length])
        query, response, logprobs, values, rewards = (field.to(self.device or field.device) for field in fields)
        return PPORLElement(query, response, logprobs, values, rewards, clean=True)

    def _prompt(self, ids: Tensor) -> Tensor:
        """Without the pads on its side; at least one token."""
        real = self._real(ids)
        if self.padding_side == "left":
            return ids[min(real, default=len(ids) - 1) :]
        return ids[: max(real, default=0) + 1]

    def _response(self, ids: Tensor) -> Tensor:
        """Without the pads at its end, but with the EOS, which may be the first of them; at least one token."""
        end = max(self._real(ids), default=-1) + 1
        return ids[: max(end + (self.eos_token_id == self.pad_token_id), 1)]

    def _real(self, ids: Tensor) -> list[int]:
        """The places that hold no pad."""
        return ids.ne(self.pad_token_id).nonzero().flatten().tolist()

    def __iter__(self) -> Iterator[PPORLElement]:
        return iter(self.history)


def ppo_collate_fn(padding_side: str, pad_token_id: int, elements: Iterable[PPORLElement]) -> PPORLBatch:
    """trlX's name for `collate`; prompts are padded on the left whatever `padding_side` says."""
    return collate(list(elements), pad_token_id)
