"""What generation gives back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Generated:
    """What a model wrote after B left-padded prompts, R the longest response."""

    response: Tensor  # (B, R) token ids, right-padded with the pad id; of an encoder-decoder without its start token
    response_mask: Tensor  # (B, R) bool, True = real response token, EOS (or the token completing a stop) included
    ended: Tensor  # (B,) bool, True = the response ends with EOS or a stop sequence, False = cut at the length limit
    logprobs: Tensor | None = None  # (B, R) nats, as seen while sampling (logits / temperature); only on request
    states: Tensor | None = None  # (B, P + R, H) of the module asked for, zeros at pads and at each row's last token


@dataclass
class GeneratedText:
    """One response as text, without EOS or stop sequence; the leading space is kept as the model produced it."""

    text: str
    ended: bool
    tokens: int  # real response tokens, EOS included
