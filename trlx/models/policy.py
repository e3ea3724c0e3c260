"""The policy with its critic and reference as one module, so that DDP or DeepSpeed wrap a single forward.

`forward` is trlX's, over whole sequences. `response_pass`, reached through the same forward, is what PPO uses: outputs
at the response's positions alone, and the frozen bottom blocks left out when their output is at hand. `text_pass`,
reached likewise, is for plain texts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from trlx.functional.logprobs import entropy, logprobs_of_tokens
from trlx.functional.masking import position_ids
from trlx.models.adapters import AdapterOff
from trlx.models.branches import FrozenCopies, Trunk, find_blocks, freeze_bottom, frozen_depth, head_inputs
from trlx.models.critics import SeparateCritic, ValueBranch, ValueHead
from trlx.models.layouts import layout_of
from trlx.models.modeling_base import PreTrainedModelWrapper
from trlx.utils.errors import UserError
from trlx.utils.peft_models import bare_model, is_adapted, learns_a_prompt


class ResponseOutput(TypedDict):
    """What `response_pass` gives; B batch, R response, T prompt and response, H hidden."""

    logprobs: Tensor  # (B, R) nats, float32, of the response tokens under softmax(logits / temperature)
    values: Tensor  # (B, R) float32, V of the state before each response token
    ref_logprobs: Tensor | None  # (B, R) nats, of the frozen reference; with_reference only
    entropy: Tensor | None  # (B, R) nats; with_reference only
    trunk: Tensor | None  # (B, T, H) the frozen trunk's output, when there is one; with_reference only


class OutputTuple(tuple):
    """An output object as a tuple of what it holds, in order, which can still be read by name."""

    _named: dict[str, Any]

    def __new__(cls, outputs: ModelOutput) -> OutputTuple:
        made = super().__new__(cls, outputs.to_tuple())
        made._named = dict(outputs.items())
        return made

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._named:
            raise AttributeError(f"the model's output has no {name}; it has {', '.join(self._named)}")
        return self._named[name]


class ValueHeadModel(PreTrainedModelWrapper):
    """A language model with a critic.

    Args:
        base_model: see `PreTrainedModelWrapper`.
        num_value_layers_unfrozen: 0 for a head on the last hidden state, n for a branch with n blocks of its own.
        critic_path: a reward model to be the critic, instead of both.

    Attributes:
        v_head: the critic, a `ValueHead`, `ValueBranch` or `SeparateCritic`.
    """

    _supported_args: tuple[str, ...] = ("num_value_layers_unfrozen", "critic_path")
    _saved_args: tuple[str, ...] = ("num_value_layers_unfrozen",)
    output_class: ClassVar[type[ModelOutput]]  # the base model's, with `value`

    def __init__(self, base_model: PreTrainedModel, num_value_layers_unfrozen: int = 0, critic_path: str | None = None):
        super().__init__(base_model)
        self.layout, self.num_value_layers_unfrozen = layout_of(self.bare), num_value_layers_unfrozen
        self.v_head: ValueHead | ValueBranch | SeparateCritic = self._make_critic(
            num_value_layers_unfrozen, critic_path
        )

    @property
    def bare(self) -> PreTrainedModel:
        """transformers' own model, also where peft wraps it."""
        return bare_model(self.base_model)

    @property
    def hidden_size(self) -> int:
        """Width of the states that enter the output embeddings (OPT 350m projects them down first)."""
        return int(self.bare.get_output_embeddings().weight.shape[1])

    def _make_critic(self, branch: int, critic_path: str | None) -> ValueHead | ValueBranch | SeparateCritic:
        if critic_path is not None:
            if branch or self.bare.config.is_encoder_decoder:
                raise UserError("model.critic_path needs a causal model and method.num_value_layers_unfrozen 0")
            return SeparateCritic.from_pretrained(critic_path, self.bare.config.get_text_config().vocab_size)
        return ValueBranch(self.bare, branch, self.hidden_size) if branch else ValueHead(self.hidden_size)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The base model's forward over whole sequences, with values.

        Args:
            input_ids: (B, T) ids. attention_mask: (B, T), 1 = real token; positions follow from it unless given.
            return_dict: True for transformers' output object; else a tuple, as in trlX, whose fields have names too.
            kwargs: further arguments of the base model's forward; those it does not know are left out.

        Returns: the base model's output with `value`, (B, T) float32 (decoder positions of an encoder-decoder);
            as a tuple: (logits, ..., value).
        """
        if kwargs.get("past_key_values") is not None and not isinstance(self.v_head, ValueHead):
            raise UserError("past_key_values cannot be given to a model whose critic has layers of its own")
        outputs, _, values = self._run(self._whole_inputs(input_ids, attention_mask, kwargs))
        outputs = self.output_class(**outputs, value=values)
        return outputs if return_dict else OutputTuple(outputs)

    def _whole_inputs(self, input_ids: Tensor | None, mask: Tensor | None, more: dict[str, Any]) -> dict[str, Any]:
        inputs = self.get_compatible_forward_kwargs(input_ids=input_ids, attention_mask=mask, **more)
        if "position_ids" in self.forward_kwargs and inputs.get("position_ids") is None and mask is not None:
            inputs["position_ids"] = position_ids(mask)[:, -_width(input_ids, mask) :]
        return inputs

    def _run(self, inputs: dict[str, Any]) -> tuple[Any, Tensor, Tensor]:
        """(outputs, what entered the output embeddings (B, N, H), values (B, N) float32)."""
        with self.v_head.watching() as seen, head_inputs(self.bare) as states:
            outputs = self.base_model(**inputs)
        return outputs, states[0], self.v_head.values(self.bare, inputs, states[0], seen).float()


class HydraValueHeadModel(ValueHeadModel):
    """A language model with a critic, of which the top trains, and its frozen reference.

    Args:
        base_model: see `PreTrainedModelWrapper`, in float32 for training (wrappers lower the precision).
        num_layers_unfrozen: see `freeze_bottom`; without effect on a model with adapters.
        num_value_layers_unfrozen, critic_path: see `ValueHeadModel`.
        cache_trunk: whether rollouts keep the frozen trunk's output, so that training runs only the blocks above it.

    Attributes:
        frozen_head: copies of what trains, frozen; None where the reference is the model without its adapters.
        trunk: the frozen bottom blocks, or None.
    """

    _supported_args = (*ValueHeadModel._supported_args, "num_layers_unfrozen", "cache_trunk")
    _saved_args = (*ValueHeadModel._saved_args, "num_layers_unfrozen")

    def __init__(
        self,
        base_model: PreTrainedModel,
        num_layers_unfrozen: int = -1,
        num_value_layers_unfrozen: int = 0,
        critic_path: str | None = None,
        cache_trunk: bool = True,
    ):
        super().__init__(base_model, num_value_layers_unfrozen, critic_path)
        self.num_layers_unfrozen = num_layers_unfrozen
        blocks = find_blocks(self.bare)
        self.frozen_head: FrozenCopies | None = None
        if is_adapted(base_model):
            self._adapter_off = AdapterOff(base_model)
            depth = 0 if learns_a_prompt(base_model) else frozen_depth(self.bare, blocks)
        else:
            depth = freeze_bottom(self.bare, num_layers_unfrozen)
            self.frozen_head = FrozenCopies(self.bare, blocks)
        if isinstance(self.v_head, ValueBranch):
            depth = min(depth, self.v_head.trunk.depth)
        can_replay = cache_trunk and not self.bare.config.is_encoder_decoder
        self.trunk = Trunk(self.bare, depth) if depth > 0 and can_replay else None

    def as_reference(self) -> contextlib.AbstractContextManager[Any]:
        """Within the block, the base model is the reference: what it was at the start of training."""
        return self.frozen_head.in_place() if self.frozen_head is not None else self._adapter_off.in_place()

    @torch.no_grad()
    def forward_hydra(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The reference's logits over whole sequences, or with `return_dict=True` all of its outputs; no gradient."""
        with self.as_reference():
            outputs = self.base_model(**self._whole_inputs(input_ids, attention_mask, kwargs))
        return outputs if return_dict else outputs.logits

    def forward(self, *args: Any, response_pass: bool = False, text_pass: bool = False, **kwargs: Any) -> Any:
        """`ValueHeadModel.forward`, or the method of the name that is True: wrappers know one forward."""
        if text_pass:
            return self.text_pass(*args, **kwargs)
        return self.response_pass(*args, **kwargs) if response_pass else super().forward(*args, **kwargs)

    def text_pass(self, input_ids: Tensor, through_critic: bool = False) -> Tensor:
        """Log-probabilities of whole texts without pads, by the language model alone, unless asked for the critic.

        All blocks run.

        Args:
            input_ids: (B, T) ids, T at least 2.
            through_critic: run the critic for all that, whose weights then have a gradient, of 0.

        Returns: (B, T − 1) nats, float32, of each token but the first, at temperature 1.
        """
        first, rest, real = input_ids[:, :1], input_ids[:, 1:], torch.ones_like(input_ids, dtype=torch.bool)
        inputs = self.layout.inputs(first, real[:, :1], rest, real[:, 1:])
        if not through_critic:
            return logprobs_of_tokens(self.layout.predictions(self.base_model(**inputs).logits, rest.shape[1]), rest)
        logits, values = self._predict(inputs, rest.shape[1])
        return logprobs_of_tokens(logits, rest) + 0.0 * values

    def response_pass(
        self,
        query: Tensor,
        query_mask: Tensor,
        response: Tensor,
        response_mask: Tensor,
        temperature: float = 1.0,
        trunk: Tensor | None = None,
        with_reference: bool = False,
    ) -> ResponseOutput:
        """Log-probabilities and values of responses.

        Args:
            query: (B, P) left-padded prompt ids. query_mask: (B, P) bool, True = real.
            response: (B, R) right-padded response ids. response_mask: (B, R) bool, True = real.
            temperature: of the sampling distribution.
            trunk: (B, T, H) kept by an earlier pass over the same rows; only the blocks above are run then.
            with_reference: also return the reference's log-probabilities, the entropy and the trunk's output.
        """
        inputs = self.layout.inputs(query, query_mask, response, response_mask)
        with self._replaying(trunk), self._keeping(with_reference) as kept:
            logits, values = self._predict(inputs, response.shape[1])
        output: ResponseOutput = {
            "logprobs": logprobs_of_tokens(logits, response, temperature),
            "values": values,
            "ref_logprobs": None,
            "entropy": None,
            "trunk": None,
        }
        if with_reference:
            output["trunk"] = kept[0] if kept else None
            with torch.no_grad(), self._replaying(output["trunk"]):
                output["entropy"] = entropy(logits, temperature)
                del logits
                with self.as_reference():
                    ref_logits = self.layout.predictions(self.base_model(**inputs).logits, response.shape[1])
                output["ref_logprobs"] = logprobs_of_tokens(ref_logits, response, temperature)
        return output

    def _predict(self, inputs: dict[str, Any], length: int) -> tuple[Tensor, Tensor]:
        """(logits (B, R, V), values (B, R)) at the positions that predict the response."""
        outputs, _, values = self._run(inputs)
        return self.layout.predictions(outputs.logits, length), self.layout.predictions(values, length)

    def _keeping(self, wanted: bool) -> contextlib.AbstractContextManager[list[Tensor]]:
        return self.trunk.keeping() if self.trunk is not None and wanted else contextlib.nullcontext([])

    @contextlib.contextmanager
    def _replaying(self, state: Tensor | None) -> Iterator[None]:
        if self.trunk is None or state is None:
            yield
        else:
            with self.trunk.replaying(state.to(self.bare.dtype)):
                yield


def _width(input_ids: Tensor | None, mask: Tensor) -> int:
    """New positions: with a key-value cache the mask also covers earlier ones."""
    return mask.shape[1] if input_ids is None else input_ids.shape[1]
