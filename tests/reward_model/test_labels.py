"""Text classifiers as reward models: which label, which number, and the same number as transformers' pipeline gives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_stage import tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    pipeline,
)

from launch.doctor.examine import preflight
from reward_model.labels import LABEL_FIELD, label_index, log_odds, require_use_of_label
from reward_model.model import check_reward_model, new_reward_tokenizer
from reward_model.scorer import RewardScorer
from trlx.utils.errors import UserError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "the", "was"]
NAMES = {0: "NEGATIVE", 1: "POSITIVE"}
TEXTS = ["the film was good", "the film was bad bad", "good", "the bad film was good good good good good good"]


def test_log_odds_by_hand() -> None:
    """Of two labels the difference of the logits; of three, p = 1/2 against 1/4 + 1/4 is 0."""
    assert log_odds(torch.tensor([[1.0, 3.0]]), 1).item() == pytest.approx(2.0)
    assert log_odds(torch.tensor([[1.0, 3.0]]), 0).item() == pytest.approx(-2.0)
    thirds = torch.tensor([[math.log(2.0), 0.0, 0.0]])
    assert log_odds(thirds, 0).item() == pytest.approx(0.0, abs=1e-6)
    assert log_odds(thirds, 1).item() == pytest.approx(math.log(1 / 3), abs=1e-6)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=5), st.data())
def test_log_odds_are_those_of_the_softmax(logits: list[float], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(logits) - 1))
    probability = torch.tensor([logits], dtype=torch.float64).softmax(1)[0, index].item()
    if 1e-9 < probability < 1 - 1e-9:
        expected = math.log(probability) - math.log1p(-probability)
        assert log_odds(torch.tensor([logits], dtype=torch.float64), index).item() == pytest.approx(expected, abs=1e-5)


def test_the_label_is_the_one_given_else_the_one_that_the_config_says() -> None:
    config = GPT2Config(id2label=NAMES)
    assert label_index(config, "NEGATIVE", "x") == 0 and label_index(config, "POSITIVE", "x") == 1
    with pytest.raises(UserError, match=r"^x: a classifier of NEGATIVE, POSITIVE: say with --reward_label"):
        label_index(config, None, "x")
    setattr(config, LABEL_FIELD, "POSITIVE")
    assert label_index(config, None, "x") == 1 and label_index(config, "NEGATIVE", "x") == 0
    with pytest.raises(
        UserError, match=r"^x: no label 'positive'.*POSITIVE.*: name one of its labels with --reward_label"
    ):
        label_index(config, "positive", "x")
    assert label_index(GPT2Config(num_labels=1), "POSITIVE", "x") is None


def test_a_label_needs_a_classifier(tmp_path: Path) -> None:
    plain, several = str(tmp_path / "plain"), str(tmp_path / "several")
    GPT2Config(num_labels=1).save_pretrained(plain)
    GPT2Config(id2label=NAMES).save_pretrained(several)
    require_use_of_label(None, [plain])
    require_use_of_label("POSITIVE", [plain, several])
    for folders in ([plain], []):
        with pytest.raises(UserError, match=r"^--reward_label POSITIVE: no text classifier .*: leave it out"):
            require_use_of_label("POSITIVE", folders)


def encoder(folder: Path) -> Path:
    """A BERT with random weights whose tokenizer puts [CLS] and [SEP] around a text."""
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "initializer_range": 0.5,
    }
    torch.manual_seed(3)
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, id2label=NAMES, pad_token_id=0, **sizes)
    model = BertForSequenceClassification(config)
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    model.save_pretrained(folder)
    return folder


def decoder(folder: Path) -> Path:
    """A GPT-2 with random weights and a pad token of its own."""
    tiny_tokenizer(folder)
    # Only the config is read of the model that lies with a tokenizer.
    GPT2Config(vocab_size=400).save_pretrained(folder)
    tokenizer = new_reward_tokenizer(folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(4)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    config = GPT2Config(vocab_size=400, id2label=NAMES, pad_token_id=tokenizer.pad_token_id, **sizes)
    model = GPT2ForSequenceClassification(config)
    torch.nn.init.normal_(model.score.weight, std=2.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(params=[encoder, decoder], ids=["encoder", "decoder"])
def classifier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return request.param(tmp_path / "classifier")


def test_a_score_is_the_log_odds_of_the_pipelines_probability(classifier: Path) -> None:
    pipe = pipeline("text-classification", str(classifier), top_k=None, truncation=True, max_length=6, batch_size=3)
    shown = pipe(TEXTS)
    expected = []
    for rows in shown:
        p = {row["label"]: row["score"] for row in rows}
        expected.append(math.log(p["POSITIVE"] / p["NEGATIVE"]))
    scorer = RewardScorer.load(classifier, max_length=6, batch_size=2, label="POSITIVE")
    none = [""] * len(TEXTS)
    assert scorer.score(none, TEXTS) == pytest.approx(expected, abs=1e-4)
    assert scorer.score(none, TEXTS, [False] * 4) == scorer.score(none, TEXTS)  # no EOS, ended or not
    negative = RewardScorer.load(classifier, max_length=6, batch_size=4, label="NEGATIVE").score(none, TEXTS)
    assert negative == pytest.approx([-score for score in expected], abs=1e-4)
    assert max(expected) - min(expected) > 0.05
    prompts, responses = zip(*((text[:4], text[4:]) for text in TEXTS), strict=True)
    longer = RewardScorer.load(classifier, max_length=60, label="POSITIVE")
    assert longer.score(prompts, responses) == pytest.approx(longer.score(none, TEXTS), abs=1e-5)  # one text


def test_a_classifier_without_its_label_is_refused_and_with_it_looked_at(classifier: Path) -> None:
    with pytest.raises(UserError, match="a classifier of NEGATIVE, POSITIVE"):
        check_reward_model(classifier)
    assert check_reward_model(classifier, "POSITIVE").pad_token_id is not None
    findings = {one.name: one.status for one in preflight(str(classifier), reward_label="POSITIVE", device="cpu")}
    assert findings["padding, model"] == findings["pad token, model"] == "ok"
    assert "fail" not in findings.values() and "score position, model" not in findings
    config = json.loads((classifier / "config.json").read_text())
    (classifier / "config.json").write_text(json.dumps({**config, LABEL_FIELD: "NEGATIVE"}))
    check_reward_model(classifier)
    assert RewardScorer.load(classifier, max_length=8).label == 0


def test_labels_that_say_nothing_are_named(tmp_path: Path) -> None:
    config = DistilBertConfig(num_labels=3)
    with pytest.raises(UserError, match="no label 'POSITIVE'; known: LABEL_0, LABEL_1, LABEL_2: name one"):
        label_index(config, "POSITIVE", tmp_path)


def test_labels_that_do_not_exclude_each_other_are_refused() -> None:
    config = GPT2Config(id2label=NAMES, problem_type="multi_label_classification")
    with pytest.raises(UserError, match="x: its labels do not exclude each other"):
        label_index(config, "POSITIVE", "x")


def test_of_a_text_that_is_too_long_the_prompt_gives_way(classifier: Path) -> None:
    scorer = RewardScorer.load(classifier, max_length=8, batch_size=4, label="POSITIVE")
    prompt = "the film was the film was the film was the film was"
    good, bad = scorer.score([prompt, prompt], [" good good", " bad bad"])
    assert good != bad
    cut = RewardScorer.load(classifier, max_length=8, label="POSITIVE", cut_prompt=lambda *_: "the")
    plain = RewardScorer.load(classifier, max_length=64, label="POSITIVE")
    assert cut.score([prompt], [" good"]) == pytest.approx(plain.score(["the"], [" good"]), abs=1e-5)
    whole = scorer.score([""], [prompt])  # a review has no prompt, and loses its end
    assert whole == scorer.score([""], [f"{prompt} {prompt}"])
