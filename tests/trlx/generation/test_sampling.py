"""Generation against a plain loop without padding or cache, and what it reports of lengths and ends."""

import copy

import pytest
import torch
from tiny_engine import EOS, VOCAB, random_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from trlx.functional.padding import left_pad
from trlx.generation.sampling import generate, generate_texts

PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21], [30]]
PAD = 3


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    """Ends now and then: EOS is as likely as the best tokens."""
    made = random_model("llama")
    with torch.no_grad():
        made.get_output_embeddings().weight[EOS] *= 2.0
    return made


def greedy_loop(model: PreTrainedModel, prompt: list[int], limit: int) -> list[int]:
    """The most likely token again and again, each time from the whole sequence."""
    ids = list(prompt)
    while len(ids) - len(prompt) < limit:
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == EOS:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("family", ["gpt_neo", "llama"])
@pytest.mark.parametrize("pad", [EOS, PAD])
def test_greedy_equals_a_plain_loop(family: str, pad: int) -> None:
    model = random_model(family)
    ids, mask = left_pad(PROMPTS, pad)
    made = generate(model, ids, mask, {"max_new_tokens": 10}, EOS, pad)
    for row, prompt in enumerate(PROMPTS):
        expected = greedy_loop(model, prompt, 10)
        assert made.response[row][made.response_mask[row]].tolist() == expected
        assert made.ended[row].item() == (expected[-1] == EOS)
        assert made.response[row][~made.response_mask[row]].eq(pad).all()


@pytest.mark.parametrize("pad", [EOS, PAD])
def test_lengths_and_ends_when_some_rows_end(model: PreTrainedModel, pad: int) -> None:
    ids, mask = left_pad(PROMPTS * 8, pad)
    torch.manual_seed(0)
    made = generate(model, ids, mask, {"max_new_tokens": 12, "do_sample": True}, EOS, pad, with_logprobs=True)
    assert 0 < made.ended.sum() < len(ids)  # both kinds, or this tests nothing
    for tokens, real, ended in zip(made.response, made.response_mask, made.ended, strict=True):
        kept = tokens[real].tolist()
        assert kept.count(EOS) == int(ended) and (kept[-1] == EOS) == ended
        assert ended or len(kept) == 12
    assert made.logprobs is not None and made.logprobs.shape == made.response.shape
    assert (made.logprobs[made.response_mask] <= 0).all()


def test_generation_leaves_the_mode_of_the_model(model: PreTrainedModel) -> None:
    own = copy.deepcopy(model).train()
    generate(own, *left_pad(PROMPTS, EOS), {"max_new_tokens": 2}, EOS, EOS)
    assert own.training


def test_texts_come_back_in_order_whatever_the_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    model = random_model()
    prompts = ["a", "abcdefgh", "abc", "abcdef", "zz"]
    seen: list[int] = []
    one = generate_texts(model, tokenizer, prompts, {"max_new_tokens": 6}, 2, seen.append)
    assert one == generate_texts(model, tokenizer, prompts, {"max_new_tokens": 6}, 5)
    assert seen == [2, 2, 1]
    for prompt, text in zip(prompts, one, strict=True):
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        expected = greedy_loop(model, ids, 6)
        assert text.ended == (expected[-1] == EOS) and text.tokens == len(expected)
        assert text.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_left_pad_golden() -> None:
    ids, mask = left_pad([[1, 2, 3], [4]], 9)
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]] and mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_sampling_follows_the_distribution() -> None:
    """The frequencies of 4,000 first tokens against softmax(logits / temperature)."""
    model = random_model("llama")
    ids, mask = left_pad([[7, 8]] * 4000, EOS)
    torch.manual_seed(0)
    made = generate(model, ids, mask, {"max_new_tokens": 1, "do_sample": True, "temperature": 0.5}, EOS, EOS)
    with torch.no_grad():
        expected = torch.softmax(model(input_ids=torch.tensor([[7, 8]])).logits[0, -1] / 0.5, -1)
    seen = torch.bincount(made.response[:, 0], minlength=VOCAB) / 4000
    assert 0.5 * (seen - expected).abs().sum().item() < 0.12  # total variation; about 0.09 from chance alone
