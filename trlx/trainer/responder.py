"""From prompts to responses to texts, the same way for rollouts, evaluation and the methods that users call."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trlx.functional.masking import response_mask
from trlx.generation.fallback import stop_ends
from trlx.generation.options import check_gen_kwargs, refuse_sweep, split_sweep, sweep_points
from trlx.generation.sampling import Generated, generate
from trlx.generation.stopping import StopSequences
from trlx.pipeline.offline_pipeline import PromptBatch
from trlx.trainer.scoring import Texts

if TYPE_CHECKING:
    from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer


class Responder:
    """Continues prompts with a trainer's policy.

    Methods that a subclass of the trainer has of its own (`generate`, `generate_eval`, `decode`) are used.

    Attributes:
        eval_kwargs: generation options of evaluation, of a swept one the first value. sweeps: values by swept option.
        experience_kwargs: generation options of rollouts.
    """

    def __init__(self, trainer: AccelerateRLTrainer):
        self.trainer = trainer
        method: Any = trainer.config.method
        fixed, self.sweeps = split_sweep(method.gen_kwargs)
        self.eval_kwargs = fixed | {name: values[0] for name, values in self.sweeps.items()}
        own = getattr(method, "gen_experience_kwargs", None)
        self.experience_kwargs = dict(own) if own is not None else dict(self.eval_kwargs)
        for options in (self.eval_kwargs, self.experience_kwargs):
            check_gen_kwargs(options, extra=trainer.generation_options)
        refuse_sweep(self.experience_kwargs)
        stops = trainer.stop_sequences
        self.stops = StopSequences(stops, trainer.tokenizer) if stops else None
        self.encodes = bool(trainer.policy.config.is_encoder_decoder)
        self.eos, self.pad = int(trainer.tokenizer.eos_token_id), int(trainer.tokenizer.pad_token_id)

    @property
    def points(self) -> list[tuple[str, dict[str, Any]]]:
        """(suffix of metric names, options) of every evaluation of the sweep."""
        return sweep_points(self.sweeps)

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """Within the block, responses are made without a word to other ranks; see `Engine.whole`.

        Ranks with unequally many batches must enter it before the first. A trainer with a `generate` of its own may
        need all of the model for it, so all is fetched then; else the policy alone, the critic and the reference not.
        """
        trainer, own = self.trainer, self._is_own("generate") or self._is_own("generate_eval")
        return trainer.engine.whole(trainer.unwrapped_model if own else trainer.policy)

    def continue_prompts(
        self,
        ids: Tensor,
        mask: Tensor,
        gen_kwargs: Mapping[str, Any],
        with_logprobs: bool = False,
        keep_output_of: nn.Module | None = None,
    ) -> Generated:
        """Responses to left-padded prompts (B, P), on the device, at the run's precision; see `generate`."""
        trainer = self.trainer
        with self.whole(), trainer.accelerator.autocast():
            return generate(
                trainer.policy,
                ids,
                mask,
                gen_kwargs,
                eos_token_id=self.eos,
                pad_token_id=self.pad,
                with_logprobs=with_logprobs,
                stops=self.stops,
                logit_mask=trainer.logit_mask,
                keep_output_of=keep_output_of,
            )

    def rollout(
        self, ids: Tensor, mask: Tensor, keep_output_of: nn.Module | None = None, with_logprobs: bool = True
    ) -> Generated:
        """Responses to train on, with the log-probabilities seen while sampling where the trainer samples itself.

        A beam search, which trlX's users may ask for, has none.
        """
        with_logprobs = with_logprobs and (self.experience_kwargs.get("num_beams") or 1) == 1
        if self._is_own("generate"):
            return self._read(ids, self.trainer.generate(ids, mask, **self.experience_kwargs))
        return self.continue_prompts(ids, mask, self.experience_kwargs, with_logprobs, keep_output_of)

    def evaluation(self, ids: Tensor, mask: Tensor, point: Mapping[str, Any]) -> Generated:
        """Responses at a point of the evaluation's sweep."""
        if self._is_own("generate_eval"):
            return self._read(ids, self.trainer.generate_eval(ids, mask, **{**self.eval_kwargs, **point}))
        return self.continue_prompts(ids, mask, {**self.eval_kwargs, **point})

    def samples(self, ids: Tensor, mask: Tensor | None, gen_kwargs: Mapping[str, Any]) -> Tensor:
        """What trlX's `generate` returns: prompt and response ids, or an encoder-decoder's decoder ids."""
        check_gen_kwargs(gen_kwargs, extra=self.trainer.generation_options)
        device = self.trainer.accelerator.device
        ids = ids.to(device)
        mask = torch.ones_like(ids) if mask is None else mask.to(device)
        made = self.continue_prompts(ids, mask, gen_kwargs)
        start = ids
        if self.encodes:
            start = torch.full_like(made.response[:, :1], self.trainer.policy.config.decoder_start_token_id)
        return torch.cat([start, made.response], dim=1)

    def _read(self, ids: Tensor, samples: Tensor) -> Generated:
        """The responses in what an overridden `generate` returned.

        A row ends with EOS, with a stop sequence, or where nothing but pads (which are not EOS) follow.
        """
        response = samples[:, 1 if self.encodes else ids.shape[1] :].to(ids.device)
        ends = response.eq(self.eos)
        if self.stops:
            ends |= stop_ends(response, self.stops)
        mask = response_mask(ends.long(), eos_token_id=1)
        ended = (ends & mask).any(dim=1)
        if self.pad != self.eos:
            pads = response.eq(self.pad).flip(1).long().cumprod(dim=1).flip(1).bool()
            pads[:, :1] = False  # a response has a token, whatever it is
            mask, ended = mask & ~pads, ended | pads.any(dim=1)
        return Generated(response=response, response_mask=mask, ended=ended)

    def texts(self, prompts: PromptBatch, made: Generated) -> Texts:
        """Texts of the very ids that were sampled, through the trainer's `decode`."""
        queries = [ids[mask.bool()] for ids, mask in zip(prompts.input_ids, prompts.attention_mask, strict=True)]
        responses = [ids[mask].cpu() for ids, mask in zip(made.response, made.response_mask, strict=True)]
        whole = responses if self.encodes else [torch.cat(row) for row in zip(queries, responses, strict=True)]
        sizes = [len(query) for query in queries]
        samples, texts, outputs = self.trainer.decode(queries, whole, sizes, append_eos_token=True)
        return Texts(prompts=texts, outputs=outputs, samples=samples, metadata=dict(prompts.metadata))

    def decode(
        self,
        prompts: Sequence[Tensor] | Tensor,
        samples: Sequence[Tensor] | Tensor,
        prompt_sizes: Sequence[int] | None,
        append_eos_token: bool,
    ) -> tuple[list[str], list[str], list[str]]:
        """See `AccelerateRLTrainer.decode`."""
        sizes = [len(row) for row in prompts] if prompt_sizes is None else [int(size) for size in prompt_sizes]
        texts = [self._text(row[:size]) for row, size in zip(prompts, sizes, strict=True)]
        starts = [0 if self.encodes else size for size in sizes]
        outputs = [self._output(row[start:], append_eos_token) for row, start in zip(samples, starts, strict=True)]
        between = str(self.trainer.tokenizer.sep_token) if self.encodes else ""
        return [text + between + output for text, output in zip(texts, outputs, strict=True)], texts, outputs

    def _output(self, ids: Tensor, append_eos_token: bool) -> str:
        whole = self._text(ids)
        text = self.stops.trim(whole) if self.stops is not None else whole
        ended = text != whole or bool((ids == self.eos).any())
        return text + str(self.trainer.tokenizer.eos_token) if append_eos_token and ended else text

    def _text(self, ids: Tensor) -> str:
        decode = self.trainer.tokenizer.decode
        return str(decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _is_own(self, name: str) -> bool:
        """Whether a subclass of the trainer has its own method of that name."""
        from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer

        return getattr(type(self.trainer), name) is not getattr(AccelerateRLTrainer, name)
