"""Do the stages mean the same by a token, by the end of a text and by padding? No weights are read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from transformers import PreTrainedTokenizerBase

from launch.doctor.finding import Finding, judge
from launch.doctor.options import Models
from reward_model.model import check_reward_model
from trlx.models.loading import load_policy_tokenizer
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config, require_vocabulary

Load = Callable[[str], PreTrainedTokenizerBase]

ANOTHER = "take the tokenizer of the folder that training starts from"
ENDS = "transformers' own generate would not stop where training put the end: set eos_token_id in its config.json"
OTHER_END = "texts would end differently in training and scoring: train the reward model from the same base model"
OTHER_WORDS = "scores are of texts, so this may be meant; as the critic (model.critic_path) it cannot be used"


def tokenizer_findings(models: Models) -> list[Finding]:
    """A line for each model: its tokenizer against that of the first policy, and its config's EOS.

    A reward model's must besides have a pad token that is not EOS (`check_reward_model`).
    """
    findings: list[Finding] = []
    first: PreTrainedTokenizerBase | None = None
    for role, path in models.policies.items():
        found = _read(role, path, load_policy_tokenizer, findings)
        if found is not None:
            findings.append(_policy(role, path, found, first))
            first = first or found
    for role, path in models.reward_models.items():
        found = _read(role, path, partial(check_reward_model, label=models.reward_label), findings)
        if found is not None:
            findings.append(_reward_model(role, found, first))
    return findings


def _read(role: str, path: str, load: Load, findings: list[Finding]) -> PreTrainedTokenizerBase | None:
    """The tokenizer, or None and a line in `findings` that says why not."""
    try:
        tokenizer = load(path)
        require_vocabulary(load_config(path), tokenizer, path)
    except UserError as error:
        findings.append(Finding("fail", f"tokenizer, {role}", str(error)))
        return None
    return tokenizer


def _policy(role: str, path: str, tokenizer: PreTrainedTokenizerBase, first: PreTrainedTokenizerBase | None) -> Finding:
    name, seen = f"tokenizer, {role}", _described(tokenizer)
    if first is not None and (differing := _differing(first, tokenizer)):
        return Finding("fail", name, f"{differing} tokens are not those of the first policy; {seen}", ANOTHER)
    if first is not None and first.eos_token_id != tokenizer.eos_token_id:
        return Finding("fail", name, f"its EOS is not that of the first policy ({first.eos_token!r}); {seen}", ANOTHER)
    named = load_config(path).get_text_config().eos_token_id
    ends = named if isinstance(named, list) else [named]
    return judge(tokenizer.eos_token_id in ends, name, f"{seen}; config.json: EOS {named}", ENDS, "warn")


def _reward_model(role: str, tokenizer: PreTrainedTokenizerBase, policy: PreTrainedTokenizerBase | None) -> Finding:
    name, seen = f"tokenizer, {role}", _described(tokenizer)
    if policy is None:
        return judge(True, name, seen, "")
    if differing := _differing(policy, tokenizer):
        return Finding("warn", name, f"{differing} tokens are not the policy's; {seen}", OTHER_WORDS)
    same = policy.eos_token_id == tokenizer.eos_token_id
    return judge(same, name, f"{seen}; {'as' if same else 'not as'} the policy's", OTHER_END)


def _differing(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> int:
    """How many of the first's tokens have another id in the other; what was added there does no harm."""
    theirs = other.get_vocab()
    return sum(theirs.get(token) != number for token, number in one.get_vocab().items())


def _described(tokenizer: PreTrainedTokenizerBase) -> str:
    pad = "none" if tokenizer.pad_token is None else f"{tokenizer.pad_token!r}"
    return f"{len(tokenizer)} tokens, EOS {tokenizer.eos_token!r} = {tokenizer.eos_token_id}, pad {pad}"
