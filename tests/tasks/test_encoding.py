"""Many posts at once, against the functions that encode and cut one: the same ids, texts and words of complaint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tasks.encoding import cut_prompts, cutting, encode_posts
from tasks.form import token_ids
from tasks.reading.files import iter_file
from tasks.reading.rows import BadRow
from tasks.records import Post
from tasks.text import TLDR, clean_summary, format_post
from trlx.pipeline import quick_cut
from trlx.pipeline.batch_tokenizer import BatchTokenizer, rust_core
from trlx.utils.errors import UserError

EOS = "<|endoftext|>"
CORPUS = [
    "My sister lost the cat in the garden.\n\nShe found it again, after a week!  We had cake.\nTL;DR:",
    "SUBREDDIT: r/pets\nTITLE: My cat\nPOST: It was gone.\r\n\tThen it came back; naïve café 日本 🐈.\nTL;DR:",
] * 4


def trained(core: Tokenizer, trainer: Any) -> PreTrainedTokenizerFast:
    core.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=EOS)


def bytewise() -> PreTrainedTokenizerFast:
    """As GPT-2's and GPT-Neo's."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    return trained(
        core, trainers.BpeTrainer(vocab_size=400, special_tokens=[EOS], initial_alphabet=letters, show_progress=False)
    )


def unsplit() -> PreTrainedTokenizerFast:
    """Merges go across words and lines, so that a cut changes tokens on both sides of it."""
    core = Tokenizer(models.BPE(unk_token=EOS, fuse_unk=True))
    return trained(core, trainers.BpeTrainer(vocab_size=300, special_tokens=[EOS], show_progress=False))


def pieces() -> PreTrainedTokenizerFast:
    """As SentencePiece's: the likeliest split of the whole text, after a normalisation that changes its length."""
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=[EOS], unk_token=EOS, show_progress=False)
    return trained(core, trainer)


TOKENIZERS = {maker.__name__: maker() for maker in (bytewise, unsplit, pieces)}


class Python:
    """A tokenizer without a Rust core: one token a word, of its length."""

    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = False, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [len(word) for word in text.split()]}

    def get_vocab(self) -> dict[str, int]:
        return {str(length): length for length in range(50)}


lines = st.text(alphabet="the cat\r\t. ;é日🐈ﬁ", max_size=60)
bodies = st.one_of(st.lists(lines, max_size=8).map("\n".join), st.text(max_size=60))
posts_drawn = st.lists(st.tuples(bodies, st.text(alphabet="a cat. é🐈\n", max_size=30)), min_size=1, max_size=6)


def as_posts(drawn: list[tuple[str, str]]) -> list[Post]:
    return [
        Post(str(number), format_post("pets", "My cat", body), clean_summary(summary), where=f"x.jsonl, line {number}")
        for number, (body, summary) in enumerate(drawn, start=1)
    ]


def one_by_one(posts: list[Post], tokenizer: Any, max_length: int) -> tuple[list[list[list[int]]], list[str]]:
    samples, left_out = [], []
    for post in posts:
        try:
            sample = TLDR.encode(tokenizer, post.prompt, post.summary, max_length)
            samples.append([sample.prompt_ids, sample.response_ids])
        except UserError as error:
            left_out.append(f"{post.where}: {error}")
    return samples, left_out


def at_once(
    posts: list[Post], tokenizer: Any, max_length: int, **options: Any
) -> tuple[list[list[list[int]]], list[str]]:
    samples, left_out = [], []
    for encoded in encode_posts(posts, TLDR, tokenizer, max_length, **options):
        ids = iter(encoded.block.ids.tolist())
        samples += [[[next(ids) for _ in range(length)] for length in row] for row in encoded.block.lengths.tolist()]
        assert next(ids, None) is None
        left_out += encoded.left_out
    return samples, left_out


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(drawn=posts_drawn, max_length=st.integers(min_value=1, max_value=120))
def test_ids_are_those_of_one_sample_at_a_time(name: str, drawn: list[tuple[str, str]], max_length: int) -> None:
    posts, tokenizer = as_posts(drawn), TOKENIZERS[name]
    assert at_once(posts, tokenizer, max_length, workers=2) == one_by_one(posts, tokenizer, max_length)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(drawn=posts_drawn, max_tokens=st.integers(min_value=0, max_value=100))
def test_cuts_are_those_of_one_prompt_at_a_time(name: str, drawn: list[tuple[str, str]], max_tokens: int) -> None:
    posts, tokenizer = as_posts(drawn), TOKENIZERS[name]
    wanted, too_long = [], []
    for post in posts:
        try:
            wanted.append(dataclasses.replace(post, prompt=TLDR.cut(post.prompt, tokenizer, max_tokens)))
        except UserError:
            too_long.append(post)
    cut = cut_prompts(posts, TLDR, tokenizer, max_tokens, bad_rows="skip")
    assert cut == wanted and [post.where for post in cut] == [post.where for post in wanted]
    if too_long:
        with pytest.raises(BadRow, match=f"^{too_long[0].where}: a prompt needs more than {max_tokens} tokens"):
            cut_prompts(posts, TLDR, tokenizer, max_tokens)


@pytest.mark.parametrize("max_length", [30, 80, 200, 550, 5000])
def test_real_posts(shared: Callable[[str], Path], tokenizer: Any, max_length: int) -> None:
    rows = [row.values for _, row in zip(range(60), iter_file(shared("reddit_tldr_2013/valid.jsonl.gz")), strict=False)]
    posts = [
        Post(row["id"], format_post(row["subreddit"], row["title"], row["post"]), row["summary"], where=row["id"])
        for row in rows
    ]
    assert at_once(posts, tokenizer, max_length) == one_by_one(posts, tokenizer, max_length)


def test_a_cut_takes_few_tokenisations(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 lines of which 10 fit: bisection alone takes six counts, of which most are plain from the offsets."""
    body = "\n".join("the cat was in the garden again after a week" for _ in range(40))
    tokenizer, counted = BatchTokenizer(TOKENIZERS["bytewise"]), []
    monkeypatch.setattr(
        BatchTokenizer,
        "__call__",
        lambda self, text, **options: counted.append(text) or {"input_ids": token_ids(TOKENIZERS["bytewise"], text)},
    )
    prompt = format_post("pets", "My cat", body)
    room = len(token_ids(TOKENIZERS["bytewise"], prompt)) // 4
    (fitted,) = cutting.fit([prompt], [room], TLDR, tokenizer)
    assert isinstance(fitted, cutting.Fitted)
    assert fitted.text == TLDR.cut(prompt, TOKENIZERS["bytewise"], room)
    assert len(counted) <= 3


@pytest.mark.parametrize("error", [-100, 100])
def test_estimates_that_are_far_off_do_no_harm(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is told of too few tokens, or too many: its result gives it away, and it is asked again in earnest."""
    right = quick_cut._Estimate._before

    def wrong(self: Any, position: int) -> int:
        return right(self, position) + (error if hasattr(self, "known") else 0)

    monkeypatch.setattr(quick_cut._Estimate, "_before", wrong)
    prompt = format_post("pets", "My cat", "the cat\nwas\nin\nthe garden\nagain\nafter\na week\n" * 3)
    (post,) = cut_prompts([Post("1", prompt, "s")], TLDR, TOKENIZERS["bytewise"], 45)
    assert post.prompt == TLDR.cut(prompt, TOKENIZERS["bytewise"], 45) != prompt


def test_tokenizers_written_in_python() -> None:
    """One token a word: 5 in the title lines, `POST:`, 3 in each line, `TL;DR:`; two lines fit beside 2 + EOS."""
    prompt = format_post("pets", "My cat", "a b c\nd e f\ng h i")
    posts = [Post("1", prompt, "short one"), Post("2", prompt, "x " * 20, where="here")]
    (sample,), left_out = at_once(posts, Python(), 16)
    assert sample == [[10, 6, 6, 2, 3, 5, 1, 1, 1, 1, 1, 1, 6], [5, 3, 0]]
    assert left_out == [
        "here: a response of 21 tokens leaves no room for its prompt in max_length 16: raise max_length or drop it "
        f"(it begins {('x ' * 20)[:60]!r})"
    ]
    (cut,) = cut_prompts(posts[:1], TLDR, Python(), 13)
    assert cut.prompt == format_post("pets", "My cat", "a b c\nd e f")


def test_many_posts_stay_in_order_and_are_read_as_they_are_needed() -> None:
    """Two threads and a thousand posts: what is read ahead is bounded, and order is that of the data."""
    read = []

    def stream() -> Iterator[Post]:
        for number in range(5000):
            read.append(number)
            yield Post(str(number), "POST: p\nTL;DR:", "c" * (number % 7 + 1))

    encoded = encode_posts(stream(), TLDR, TOKENIZERS["bytewise"], 100, workers=2)
    first = next(encoded)
    assert len(read) < 2000
    lengths = [*first.block.lengths[:, 1].tolist(), *(n for rest in encoded for n in rest.block.lengths[:, 1].tolist())]
    wanted = [len(token_ids(TOKENIZERS["bytewise"], " " + "c" * n)) + 1 for n in range(1, 8)]
    assert lengths == [wanted[number % 7] for number in range(5000)]


def test_what_reading_raises_arrives() -> None:
    def broken() -> Iterator[Post]:
        yield Post("1", "POST: p\nTL;DR:", "s")
        raise UserError("x.jsonl, line 2: not JSON")

    with pytest.raises(UserError, match="line 2"):
        list(encode_posts(broken(), TLDR, TOKENIZERS["bytewise"], 100))


def test_a_tokenizer_without_eos_is_refused() -> None:
    with pytest.raises(UserError, match="no EOS"):
        encode_posts([], TLDR, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())), 100)


def test_a_tokenizer_that_cuts_and_pads_by_itself_does_not_here() -> None:
    """As one loaded from a tokenizer.json with both switched on; and it is left as it was."""
    tokenizer = bytewise()
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    before = json.loads(tokenizer.backend_tokenizer.to_str())
    ids = [tokens.ids for tokens in BatchTokenizer(tokenizer).encode(["the cat was lost", "a"])]
    assert json.loads(tokenizer.backend_tokenizer.to_str()) == before
    assert ids == [token_ids(TOKENIZERS["bytewise"], text) for text in ("the cat was lost", "a")]


def test_special_tokens_in_a_text_are_split_when_the_tokenizer_says_so() -> None:
    core = bytewise().backend_tokenizer
    for split in (False, True):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=EOS, split_special_tokens=split)
        (tokens,) = BatchTokenizer(tokenizer).encode([f"a {EOS} b"])
        assert tokens.ids == token_ids(tokenizer, f"a {EOS} b")
        assert (tokenizer.eos_token_id in tokens.ids) != split


def test_a_tokenizer_that_adds_python_of_its_own_is_asked_itself() -> None:
    class Lower(PreTrainedTokenizerFast):
        def __call__(self, text: Any, *args: Any, **options: Any) -> Any:
            return super().__call__(text.lower(), *args, **options)

    plain = TOKENIZERS["bytewise"]
    lower = Lower(tokenizer_object=plain.backend_tokenizer, eos_token=plain.eos_token)
    assert rust_core(lower) is None and rust_core(plain) is not None
    posts = as_posts([("The CAT", "A Cat")])
    assert at_once(posts, lower, 100) == one_by_one(posts, lower, 100)
