"""The reward model and its scorer against transformers' stock class."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_stage import tiny_base
from transformers import AutoModelForSequenceClassification, AutoTokenizer, GPTNeoForSequenceClassification

from reward_model.model import freeze_bottom, init_head, load_reward_model, new_reward_model, new_reward_tokenizer
from reward_model.scorer import RewardScorer
from tasks.text import TLDR
from trlx.utils.errors import UserError

OFFSET = 0.75
PROMPT = "SUBREDDIT: r/x\nTITLE: t\nPOST: my sister lost the keys\nTL;DR:"
PROMPTS = [PROMPT, PROMPT.replace("my sister", "my cat and a friend in the park"), "POST: p\nTL;DR:", PROMPT]
RESPONSES = [" my sister lost the keys.", " the cat", " my boss sold the car at work and missed the train", ""]


def fresh(path: Any) -> tuple[Any, Any]:
    """An untrained reward model and its tokenizer."""
    tokenizer = new_reward_tokenizer(path)
    return new_reward_model(path, tokenizer), tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model on disk, its weights spread out so that scores differ clearly."""
    folder = tmp_path_factory.mktemp("reward")
    model, tokenizer = fresh(tiny_base(folder / "base"))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        model.get_input_embeddings().weight[-1].zero_()
    model.config.reward_offset = OFFSET
    model.save_pretrained(folder / "rm")
    tokenizer.save_pretrained(folder / "rm")
    return folder / "rm"


def stock_scores(path: Path, texts: list[str], side: str = "right") -> list[float]:
    """What a stranger gets from transformers alone, batched and padded; EOS written as text."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    assert isinstance(model, GPTNeoForSequenceClassification)
    tokenizer.padding_side = side
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        output = model(batch["input_ids"], attention_mask=batch["attention_mask"], position_ids=positions)
    return output.logits[:, 0].tolist()


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_stock_class_batched_equals_the_scorer_plus_offset(saved: Path, side: str) -> None:
    scorer = RewardScorer.load(saved, max_length=200, batch_size=3)
    texts = [prompt + response + "<|endoftext|>" for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    ours = [score + OFFSET for score in scorer.score(PROMPTS, RESPONSES)]
    assert ours == pytest.approx(stock_scores(saved, texts, side), abs=1e-5)
    assert max(ours) - min(ours) > 0.1  # or the comparison would show nothing


def test_a_cut_response_is_scored_at_its_last_token(saved: Path) -> None:
    scorer = RewardScorer.load(saved, max_length=200, batch_size=2)
    ended = [True, False, False, True]
    texts = [p + r + "<|endoftext|>" * e for p, r, e in zip(PROMPTS, RESPONSES, ended, strict=True)]
    ours = [score + OFFSET for score in scorer.score(PROMPTS, RESPONSES, ended)]
    assert ours == pytest.approx(stock_scores(saved, texts), abs=1e-5)
    assert scorer.score(PROMPTS[1:2], RESPONSES[1:2], [False]) != scorer.score(PROMPTS[1:2], RESPONSES[1:2], [True])


def test_batch_size_changes_nothing_and_each_text_is_read_once(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = RewardScorer.load(saved, max_length=200, batch_size=1)
    many = RewardScorer.load(saved, max_length=200, batch_size=16)
    prompts, responses = PROMPTS * 3, RESPONSES * 3
    rows: list[int] = []
    plain = many._score_ids
    monkeypatch.setattr(many, "_score_ids", lambda ids: rows.append(len(ids)) or plain(ids))
    assert one.score(prompts, responses) == pytest.approx(many.score(prompts, responses), abs=1e-5)
    assert rows == [4]


def test_no_text_and_uneven_lists(saved: Path) -> None:
    scorer = RewardScorer.load(saved, max_length=200, batch_size=4)
    assert scorer.score([], []) == []
    with pytest.raises(ValueError, match="1 responses"):
        scorer.score(PROMPTS, RESPONSES[:1])


def test_a_long_prompt_is_cut_and_the_response_is_not(saved: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(saved)
    long = PROMPT.replace("lost the keys", "lost the keys " * 30)
    scorer = RewardScorer.load(saved, max_length=80, batch_size=4, cut_prompt=TLDR.cut)
    room = 80 - len(tokenizer(RESPONSES[0])["input_ids"]) - 1
    text = TLDR.cut(long, tokenizer, room) + RESPONSES[0] + "<|endoftext|>"
    assert scorer.score([long], RESPONSES[:1])[0] + OFFSET == pytest.approx(stock_scores(saved, [text])[0], abs=1e-5)


def test_padding_with_eos_makes_the_stock_class_read_another_token(saved: Path) -> None:
    """Why the pad token is one of its own: with pad = EOS the score is that of the text without its EOS."""
    model, tokenizer = load_reward_model(saved)
    ids = tokenizer(PROMPT + " the cat", return_tensors="pt", add_special_tokens=False)["input_ids"]
    with_eos = torch.cat([ids, torch.tensor([[tokenizer.eos_token_id]])], dim=1)
    with torch.no_grad():
        right = model(with_eos).logits.item()
        before = model(ids).logits.item()
        model.config.pad_token_id = tokenizer.eos_token_id
        wrong = model(with_eos).logits.item()
    assert wrong == pytest.approx(before, abs=1e-5)
    assert abs(right - wrong) > 1e-3


def test_a_model_that_pads_with_eos_is_refused(saved: Path, tmp_path: Path) -> None:
    model, tokenizer = load_reward_model(saved)
    model.config.pad_token_id = tokenizer.eos_token_id
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="pad token is EOS"):
        load_reward_model(tmp_path)


def test_a_language_model_is_no_reward_model(saved: Path) -> None:
    with pytest.raises(UserError, match="no reward model"):
        load_reward_model(saved.parent / "base")


def test_two_labels_are_refused_where_none_is_the_reward(saved: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(saved, num_labels=2, ignore_mismatched_sizes=True)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(saved).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="a classifier of LABEL_0, LABEL_1: say with --reward_label"):
        load_reward_model(tmp_path)


def test_dtype_is_what_is_asked_for(saved: Path) -> None:
    assert load_reward_model(saved)[0].dtype == torch.float32
    assert load_reward_model(saved, dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_a_new_model_has_its_own_pad_token_and_keeps_its_embeddings(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    words = AutoTokenizer.from_pretrained(base)
    model, tokenizer = fresh(base)
    assert tokenizer.pad_token == "<|padding|>" and tokenizer.pad_token_id == len(words) != tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id and model.config.vocab_size == len(words) + 1
    embeddings = model.get_input_embeddings().weight
    assert embeddings.shape[0] == len(words) + 1 and embeddings[-1].abs().sum() == 0
    assert model.config.num_labels == 1 and model.config.resid_dropout == 0.0
    again, same = fresh(tmp_path_saved(model, tokenizer, tmp_path / "again"))
    assert len(same) == len(tokenizer)  # the pad token is not added twice
    assert torch.equal(again.score.weight, model.score.weight)  # nor is a trained head replaced


def tmp_path_saved(model: torch.nn.Module, tokenizer: object, folder: Path) -> Path:
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


def test_head_initialisation_has_variance_one_over_d_plus_1() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(99, 400, bias=False)  # d + 1 = 100, so the standard deviation is 0.1
    init_head(head)
    assert head.weight.std().item() == pytest.approx(0.1, rel=0.02)
    assert head.weight.mean().item() == pytest.approx(0.0, abs=0.002)


def test_seventy_percent_of_ten_blocks_and_the_embeddings_are_frozen(tmp_path: Path) -> None:
    model, _ = fresh(tiny_base(tmp_path, layers=10))
    frozen = set(freeze_bottom(model, 0.7))
    names = {name for name, _ in model.named_parameters()}
    blocks = {f"transformer.h.{index}." for index in range(7)}
    expected = {name for name in names if name.startswith(tuple(blocks))}
    expected |= {"transformer.wte.weight", "transformer.wpe.weight"}
    assert frozen == expected
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {"score.weight", "transformer.ln_f.weight", "transformer.h.7.ln_1.weight"} <= trained
    assert trained == names - frozen


def test_nothing_is_frozen_at_zero_and_nonsense_is_refused(tmp_path: Path) -> None:
    model, _ = fresh(tiny_base(tmp_path))
    assert freeze_bottom(model, 0.0) == []
    with pytest.raises(UserError, match="between 0 and 1"):
        freeze_bottom(model, 70)


def test_the_offset_is_in_the_config(saved: Path) -> None:
    assert json.loads((saved / "config.json").read_text())["reward_offset"] == OFFSET
    assert RewardScorer.load(saved, max_length=64, batch_size=1).offset == OFFSET
