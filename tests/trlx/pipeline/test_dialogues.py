"""Dialogues as messages, cut to length; and the batches that are made of them."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from trlx.pipeline import MiniBatchIterator
from trlx.pipeline.dialogue_store import Seq2SeqStore
from trlx.pipeline.dialogues import tokenize_pair, tokenize_sample
from trlx.pipeline.offline_pipeline import DialogMessage, DialogStore, tokenize_dialogue
from trlx.utils.errors import UserError

EOS, BOS, PAD = 0, 257, 258

texts = st.text("abc ", max_size=5)
dialogues = st.lists(st.tuples(texts, texts), min_size=1, max_size=4).map(
    lambda pairs: [t for pair in pairs for t in pair]
)
sides = st.sampled_from(["left", "right"])


@pytest.fixture(scope="module")
def words(tokenizer_folder: str) -> PreTrainedTokenizerFast:
    """A byte a token; BOS, EOS and PAD all differ, so that no two can be mistaken for each other."""
    own = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    own.add_special_tokens({"bos_token": "<s>", "pad_token": "<pad>"})
    assert (own.eos_token_id, own.bos_token_id, own.pad_token_id) == (EOS, BOS, PAD)
    return own


def ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.convert_tokens_to_ids(list(text.replace(" ", "Ġ"))))


def on_side(tokenizer: PreTrainedTokenizerFast, side: str) -> PreTrainedTokenizerFast:
    own = copy.copy(tokenizer)
    own.truncation_side = side
    return own


def joined(dialog: list[DialogMessage]) -> tuple[int, ...]:
    return tuple(token for message in dialog for token in message.tokens)


def test_a_text_is_the_output_to_a_beginning(words: PreTrainedTokenizerFast) -> None:
    assert tokenize_dialogue("ab", words) == [
        DialogMessage(is_output=False, tokens=(BOS,)),
        DialogMessage(is_output=True, tokens=(*ids(words, "ab"), EOS)),
    ]


def test_prompts_and_outputs_alternate_and_the_last_output_is_closed_once(words: PreTrainedTokenizerFast) -> None:
    wanted = [
        DialogMessage(False, ids(words, "a")),
        DialogMessage(True, ids(words, "bc")),
        DialogMessage(False, ids(words, "c")),
        DialogMessage(True, (*ids(words, "d"), EOS)),
    ]
    assert tokenize_dialogue(["a", "bc", "c", "d"], words) == wanted
    assert tokenize_dialogue(("a", "bc", "c", f"d{words.eos_token}"), words) == wanted


@pytest.mark.parametrize(
    ("dialogue", "side", "length", "expected"),
    [
        # "ab" | "cd" EOS has 5 tokens.
        (["ab", "cd"], "right", 5, [(False, "ab"), (True, "cd$")]),
        (["ab", "cd"], "right", 3, [(False, "ab"), (True, "c")]),
        (["ab", "cd"], "right", 2, [(False, "ab")]),  # nothing of the output is left
        (["ab", "cd"], "left", 4, [(False, "b"), (True, "cd$")]),
        # Three places hold "cd$", an output: the beginning takes the first's.
        (["ab", "cd"], "left", 3, [(False, "^"), (True, "d$")]),
        (["", "cd"], "right", 3, [(False, "^"), (True, "cd")]),
        (["", "cd"], "left", 3, [(False, "^"), (True, "d$")]),
        (["", "cd"], "left", 4, [(False, "^"), (True, "cd$")]),  # room for all
        (["", "", "ab", "c"], "right", 9, [(False, "ab"), (True, "c$")]),  # empty messages are none
        # Left: "c" "de" "f$" have 5, whose first, the output "c", gives way to the beginning.
        (["ab", "c", "de", "f"], "left", 5, [(False, "^"), (False, "de"), (True, "f$")]),
    ],
)
def test_cut_dialogues_by_hand(
    words: PreTrainedTokenizerFast, dialogue: list[str], side: str, length: int, expected: list[tuple[bool, str]]
) -> None:
    special = {"^": (BOS,), "$": (EOS,)}

    def spelled(text: str) -> tuple[int, ...]:
        return tuple(token for letter in text for token in special.get(letter, ids(words, letter)))

    wanted = [DialogMessage(is_output, spelled(text)) for is_output, text in expected]
    assert tokenize_dialogue(dialogue, on_side(words, side), length) == wanted


@given(dialogues, sides, st.integers(2, 24))
def test_what_is_left_is_one_end_of_the_whole(
    words: PreTrainedTokenizerFast, dialogue: list[str], side: str, length: int
) -> None:
    whole = (*ids(words, "".join(dialogue)), EOS)
    dialog = tokenize_dialogue(dialogue, on_side(words, side), length)
    tokens = joined(dialog)
    assert 1 <= len(tokens) <= length and all(message.tokens for message in dialog)
    assert not dialog[0].is_output
    has_beginning = dialog[0].tokens == (BOS,)
    room = length - has_beginning
    assert tokens[has_beginning:] == (whole[:room] if side == "right" else whole[-room:])
    assert len(tokens) == min(length, len(whole) + has_beginning)


@given(dialogues, sides, st.integers(2, 24))
def test_each_token_keeps_its_speaker(
    words: PreTrainedTokenizerFast, dialogue: list[str], side: str, length: int
) -> None:
    speakers = [i % 2 == 1 for i, text in enumerate(dialogue) for _ in text] + [True]
    dialog = tokenize_dialogue(dialogue, on_side(words, side), length)
    kept = [message.is_output for message in dialog for _ in message.tokens]
    if dialog[0].tokens == (BOS,):
        kept = kept[1:]
    assert kept == (speakers[: len(kept)] if side == "right" else speakers[-len(kept) :])


def test_the_end_stands_in_for_a_missing_beginning(tokenizer_folder: str) -> None:
    own = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder, bos_token=None)
    own.bos_token = None
    assert tokenize_dialogue("a", own)[0].tokens == (own.eos_token_id,)


@pytest.mark.parametrize(
    ("dialogue", "length", "message"),
    [
        (["a", "b", "c"], 8, "even number of texts .* not 3"),
        ([], 8, "even number of texts .* not 0"),
        (["a", 3], 8, "entry 1 is 3"),
        ({"prompt": "a"}, 8, "must be a text or a list of texts"),
        (3, 8, "must be a text or a list of texts"),
        (["a", "b"], 1, "max_length is 1"),
    ],
)
def test_what_is_refused(words: PreTrainedTokenizerFast, dialogue: Any, length: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        tokenize_dialogue(dialogue, words, length)
    assert "\n" not in str(caught.value)


def test_batches_have_labels_on_outputs_alone(words: PreTrainedTokenizerFast) -> None:
    dialogs = [tokenize_dialogue(["ab", "c"], words), tokenize_dialogue(["a", "b"], words)]
    (batch,) = DialogStore(dialogs, words).create_loader(2)
    a, b, c = ids(words, "abc")
    assert batch["input_ids"].tolist() == [[a, b, c, EOS], [a, b, EOS, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.labels.tolist() == [[-100, -100, c, EOS], [-100, b, EOS, -100]]
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.long


def test_microbatches_are_cut_to_their_own_width(words: PreTrainedTokenizerFast) -> None:
    dialogs = [tokenize_dialogue(["a", text], words) for text in ("b", "bb", "bbbb")]
    (batch,) = DialogStore(dialogs, words).create_loader(3)
    first, second = next(MiniBatchIterator([batch], mb_size=2, num_mb=2))
    assert batch["labels"].shape == (3, 6) and second["labels"].shape == (1, 6)
    assert [first[name].shape for name in ("input_ids", "attention_mask", "labels")] == [(2, 4)] * 3
    assert first["labels"].tolist() == batch["labels"][:2, :4].tolist()
    assert first.labels is first["labels"]


def test_the_end_is_learned_although_pads_look_like_it(words: PreTrainedTokenizerFast) -> None:
    own = copy.deepcopy(words)
    own.pad_token = own.eos_token
    (batch,) = DialogStore(
        [tokenize_dialogue(["a", "b"], own), tokenize_dialogue(["a", "bcd"], own)], own
    ).create_loader(2)
    b, c, d = ids(words, "bcd")
    assert batch["labels"].tolist() == [[-100, b, EOS, -100, -100], [-100, b, c, d, EOS]]
    assert batch["attention_mask"].sum().item() == 8


def test_a_loader_shuffles_and_drops_as_it_is_told(words: PreTrainedTokenizerFast) -> None:
    store = DialogStore([tokenize_dialogue([letter, letter], words) for letter in "abcde"], words)
    assert len(store) == 5 and store[1]["input_ids"].tolist() == [*ids(words, "bb"), EOS]
    assert [len(batch["labels"]) for batch in store.create_loader(2)] == [2, 2, 1]
    assert [len(batch["labels"]) for batch in store.create_loader(2, shuffle=True, drop_last=True)] == [2, 2]
    rows = [row[0].item() for batch in store.create_loader(2, shuffle=True) for row in batch["input_ids"]]
    assert sorted(rows) == sorted(ids(words, "abcde"))


def test_of_a_plain_sample_every_token_is_learned(words: PreTrainedTokenizerFast) -> None:
    def learned(text: str, length: int, side: str = "right") -> tuple[int, ...]:
        (message,) = tokenize_sample(text, on_side(words, side), length)
        assert message.is_output
        return message.tokens

    assert learned("abc", 9) == (*ids(words, "abc"), EOS)
    assert learned(f"abc{words.eos_token}", 9) == (*ids(words, "abc"), EOS)
    assert learned("abc", 3) == ids(words, "abc")  # a text that was cut has no end to learn
    assert learned("abc", 3, "left") == (*ids(words, "bc"), EOS)
    assert tokenize_sample(["a", "b"], words, 9) == tokenize_dialogue(["a", "b"], words, 9)


def test_pairs_for_an_encoder_decoder(words: PreTrainedTokenizerFast) -> None:
    dialogs = [tokenize_pair(["abc", "b"], words, 9), tokenize_pair(("a", "bcd"), words, 3)]
    (batch,) = Seq2SeqStore(dialogs, words).create_loader(2)
    a, b, c, d = ids(words, "abcd")
    assert batch["input_ids"].tolist() == [[a, b, c], [a, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[b, EOS, -100], [b, c, d]]
    first, second = next(MiniBatchIterator([batch], mb_size=1, num_mb=2))
    assert (first["input_ids"].tolist(), first["labels"].tolist()) == ([[a, b, c]], [[b, EOS]])
    assert (second["input_ids"].tolist(), second["labels"].tolist()) == ([[a]], [[b, c, d]])
    assert second["attention_mask"].tolist() == [[1]]
    for sample in ("ab", ["a", "b", "c", "d"]):
        with pytest.raises(UserError, match=r"must be \[prompt, output\]"):
            tokenize_pair(sample, words, 9)
