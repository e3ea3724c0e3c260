from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.reading.formats import FORMATS, PairText, PostText, RowFormats, get_format, kinds_of, recognise
from tasks.reading.rows import BadRow, RawRow
from tasks.records import Pair, Post
from tasks.text import clean_prompt, clean_summary, format_post
from trlx.utils.errors import UserError

FIXTURES = Path(__file__).parents[1] / "fixtures"
GOAT = (
    "SUBREDDIT: r/gardening\nTITLE: My neighbour's goat ate the tomatoes\n"
    "POST: I grow tomatoes on a small balcony, eleven plants this year.\n\n"
    "On Tuesday the goat next door climbed the fence and ate nine of them. I like the goat, and I like my neighbour, "
    "so I do not want a quarrel.\n\nWhat would you say to them?"
)
GOAT_SUMMARY = "Neighbour's goat ate nine of my tomato plants; how do I bring it up without a quarrel?"
GOAT_WORSE = "A goat climbed over a fence on a Tuesday in summer."


def fixture(name: str) -> list[RawRow]:
    lines = (FIXTURES / name).read_text(encoding="utf-8").splitlines()
    return [RawRow(json.loads(line), f"{name}, line {number}") for number, line in enumerate(lines, start=1)]


def read(row: RawRow, name: str) -> Any:
    """The text of a row, which must be recognised as of the format called `name`."""
    form = recognise(row.values, FORMATS[name].kind, row.where)
    assert form.name == name
    return form.read(row)


# ---------------------------------------------------------------- reading each format


def test_openai_posts() -> None:
    text = read(fixture("tldr_3_filtered/train.jsonl")[0], "openai-posts")
    assert text == PostText(GOAT + "\nTL;DR:", GOAT_SUMMARY, "t3_fix01", {})


@pytest.mark.parametrize("left_out", ["subreddit", "title"])
@pytest.mark.parametrize("null", [False, True])
def test_openai_posts_without_title_or_subreddit(left_out: str, null: bool) -> None:
    values = {"subreddit": "pets", "title": "Cat", "post": "Gone.", "summary": "The cat is gone.", "score": 3}
    values = {**values, left_out: None} if null else {name: values[name] for name in values if name != left_out}
    lines = {"subreddit": "SUBREDDIT: r/pets\n", "title": "TITLE: Cat\n"}
    expected = "".join(line for name, line in lines.items() if name != left_out) + "POST: Gone.\nTL;DR:"
    assert read(RawRow(values, "x"), "openai-posts") == PostText(expected, "The cat is gone.", None, {"score": 3})


def test_carperai_posts() -> None:
    text = read(fixture("carperai_posts/train.jsonl")[0], "carperai-posts")
    assert text == PostText(GOAT + "\nTL;DR: ", GOAT_SUMMARY)


def test_trl_completions() -> None:
    assert read(fixture("trl/completions.jsonl")[0], "trl-completions") == PostText(
        GOAT + "\nTL;DR:", " " + GOAT_SUMMARY
    )
    chat = read(fixture("trl/completions_chat.jsonl")[0], "trl-completions")
    assert chat == PostText("Summarise: the ferry froze in.", "The ferry is stuck in ice.")


def test_carperai_pairs() -> None:
    text = read(fixture("carperai_comparisons/train.jsonl")[0], "pairs")
    assert text == PairText(GOAT, "TL;DR:  " + GOAT_SUMMARY, "TL;DR:  " + GOAT_WORSE)


def test_trl_preference_as_text_and_as_chat() -> None:
    assert read(fixture("trl/preference.jsonl")[1], "pairs") == PairText(
        "Summarise in one sentence: Two bakers merged their shops and argue about rye every morning.",
        " Two bakers who merged their shops argue about rye.",
        " Rye is a bread that two people bake.",
    )
    first, second = (read(row, "pairs") for row in fixture("trl/preference_chat.jsonl"))
    assert first == PairText(
        "Answer in one sentence.\n\nWhy did the ferry stay in port?",
        "The harbour was frozen for nine days.",
        "Ferries are boats that carry people.",
    )
    assert second.prompt == "User: Who argues about rye?\n\nAssistant: Two bakers.\n\nUser: And why do they argue?"


def test_text_and_chat_can_be_mixed_in_a_row() -> None:
    chat = [{"role": "user", "content": "Name a bird."}, {"role": "assistant", "content": "The owl."}]
    values = {"prompt": "Name a bird.", "chosen": chat, "rejected": "The eel."}
    assert read(RawRow(values, "x"), "pairs") == PairText("Name a bird.", "The owl.", "The eel.")


def test_implicit_pairs_as_text_and_as_chat() -> None:
    first, second = (read(row, "implicit-pairs") for row in fixture("trl/implicit.jsonl"))
    assert first == PairText(
        "\n\nHuman: How do I keep bread fresh?\n\nAssistant:",
        " Keep it in a paper bag, cut side down.",
        " Keep it wherever you happen to like.",
    )
    assert second.prompt.endswith("\n\nHuman: Where does it nest?\n\nAssistant:")
    assert read(fixture("trl/implicit_chat.jsonl")[0], "implicit-pairs") == PairText(
        "User: Name a bird.\n\nAssistant: The wren.\n\nUser: Where does it nest?",
        "In hedges and in holes of walls.",
        "Somewhere out in the wide country.",
    )


@pytest.mark.parametrize(
    "chosen, rejected, prompt",
    [
        ("The sky is blue.", "The sky is green.", "The sky is"),
        ("The sky is blue.", "The sky is black.", "The sky is"),
        ("The sky is", "The sky is blue.", "The sky"),
        ("The sky\n\n is blue.", "The sky\n\n was blue.", "The sky"),
        ("P\nTL;DR: The cat is back.", "P\nTL;DR: The cat is gone.", "P\nTL;DR:"),
        (
            "\n\nHuman: h\n\nAssistant:\nTL;DR: a",
            "\n\nHuman: h\n\nAssistant:\nTL;DR: b",
            "\n\nHuman: h\n\nAssistant:\nTL;DR:",
        ),
        ("P\nTL;DR: q\n\nAssistant: a", "P\nTL;DR: q\n\nAssistant: b", "P\nTL;DR: q\n\nAssistant:"),
    ],
)
def test_where_the_shared_prompt_ends(chosen: str, rejected: str, prompt: str) -> None:
    text = read(RawRow({"chosen": chosen, "rejected": rejected}, "x"), "implicit-pairs")
    assert text == PairText(prompt, chosen[len(prompt) :], rejected[len(prompt) :])


@pytest.mark.parametrize(
    "chosen, rejected, reason",
    [
        ("Blue.", "Green.", "do not begin alike"),
        (" Blue.", " Green.", "do not begin alike"),
        ("Bl ue", [{"role": "user", "content": "x"}], "one of 'chosen' and 'rejected' is a chat"),
        ("", "", "do not begin alike"),
        (None, "x", "'chosen' is empty"),
    ],
)
def test_implicit_pairs_without_a_prompt(chosen: Any, rejected: Any, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(RawRow({"chosen": chosen, "rejected": rejected}, "x"), "implicit-pairs")


def test_openai_comparisons_of_posts() -> None:
    first, second, third = (read(row, "openai-comparisons") for row in fixture("comparisons/batch5.json"))
    assert first == PairText(
        GOAT + "\nTL;DR:",
        " " + GOAT_SUMMARY,
        " " + GOAT_WORSE,
        extra={
            **{"batch": "batch5", "confidence": 8, "worker": "worker_one", "split": "train", "post_id": "t3_fix01"},
            **{"policy_chosen": "ref", "policy_rejected": "sup4_ppo_rm4"},
            **{"note_chosen": "says it all", "note_rejected": "misses the question"},
            **{"subreddit": "gardening", "title": "My neighbour's goat ate the tomatoes"},
        },
    )
    assert (second.extra["policy_chosen"], second.extra["confidence"]) == ("sup4_ppo_rm4", 2)
    assert "note_chosen" not in second.extra and "confidence" not in third.extra


def test_openai_comparisons_of_articles() -> None:
    text = read(fixture("comparisons/cnndm2.json")[1], "openai-comparisons")
    article = (
        "(CNN) -- The people of Ostrava Falls voted on Monday to keep a bridge that leans four degrees to the east."
        "\n\nEngineers call it safe. Visitors call it charming."
    )
    assert text.prompt == f"Article:\n\n{article}\n\nTL;DR:"
    assert text.chosen.startswith(" Ostrava Falls voted")
    assert (text.extra["site"], text.extra["batch"], text.extra["confidence"]) == ("cnn.com", "cnndm2", 5)
    assert "subreddit" not in text.extra


def test_the_hubs_rendering_reads_as_the_raw_files_do() -> None:
    raw = fixture("comparisons/batch5.json") + fixture("comparisons/cnndm2.json")
    hub = fixture("hub_comparisons.jsonl")
    assert hub[3].values["info"]["post"] is None
    assert [read(row, "openai-comparisons") for row in hub] == [read(row, "openai-comparisons") for row in raw]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"choice": 2}, "'choice' is neither 0 nor 1 (it is '2')"),
        ({"choice": True}, "'choice' is neither 0 nor 1"),
        ({"choice": None}, "'choice' is neither 0 nor 1"),
        ({"summaries": [{"text": "a"}]}, "'summaries' is not a list of two (found 1)"),
        ({"summaries": "ab"}, "'summaries' is not a list of two (found text)"),
        ({"summaries": ["a", "b"]}, "'summaries' does not hold objects with a 'text'"),
        ({"summaries": [{"text": "a"}, {}]}, "no column 'summaries.1.text'"),
        ({"summaries": [{"text": "a"}, {"text": 3}]}, "'summaries.1.text' is not text"),
        ({"info": {"id": "x"}}, "'info' has neither 'post' nor 'article'"),
        ({"info": {"post": None, "article": None}}, "'info.post' is empty"),
        ({"info": {"post": " "}}, "'info.post' is empty"),
        ({"info": {"article": ""}}, "'info.article' is empty"),
        ({"info": "text"}, "'info' is not an object with the post (found text)"),
        ({"info": {"post": "p", "title": 3}}, "'info.title' is not text"),
        ({"info": {"post": "p", "id": ["x"]}}, "'info.id' is not text"),
        ({"extra": {"confidence": "high"}}, "'extra.confidence' is not a whole number"),
    ],
)
def test_bad_comparisons(change: dict[str, Any], reason: str) -> None:
    row = fixture("comparisons/batch5.json")[1]
    with pytest.raises(BadRow) as caught:
        read(RawRow({**row.values, **change}, row.where), "openai-comparisons")
    assert f"comparisons/batch5.json, line 2: {reason}" in str(caught.value)


def test_a_confidence_may_be_a_float_as_pandas_writes_it() -> None:
    row = fixture("comparisons/batch5.json")[1]
    text = read(RawRow({**row.values, "choice": 1.0, "extra": {"confidence": 6.0}}, "x"), "openai-comparisons")
    assert text.extra["confidence"] == 6 and text.extra["policy_chosen"] == "ref"


def test_a_prompt_that_stands_in_both_sides_too_is_taken_off_them() -> None:
    values = {"prompt": "P\nTL;DR: ", "chosen": "P\nTL;DR: The cat.", "rejected": "P\nTL;DR: The dog."}
    assert read(RawRow(values, "x"), "pairs") == PairText("P\nTL;DR: ", " The cat.", " The dog.")
    one = {**values, "rejected": "The dog."}
    assert read(RawRow(one, "x"), "pairs") == PairText(*one.values())
    chat = {**values, "prompt": [{"role": "user", "content": "P\nTL;DR:"}]}
    assert read(RawRow(chat, "x"), "pairs").chosen == values["chosen"]


@pytest.mark.parametrize("name", ["label", "completion"])
def test_a_prompt_that_stands_in_the_summary_too_is_taken_off_it(name: str) -> None:
    form = "carperai-posts" if name == "label" else "trl-completions"
    for summary, kept in [("P q.\nThe cat.", "The cat."), ("P q.", "P q."), ("P q", "P q"), ("The P q.", "The P q.")]:
        assert read(RawRow({"prompt": "P q.", name: summary}, "x"), form) == PostText("P q.", kept)


def test_a_chat_that_csv_made_text_is_refused() -> None:
    chat = "[{'role': 'user', 'content': 'Name a bird.'}]"
    for name in ("prompt", "chosen", "rejected"):
        values = {"prompt": "p", "chosen": "a", "rejected": "b", name: chat}
        with pytest.raises(BadRow, match=f"'{name}' is a chat written as text"):
            read(RawRow(values, "x"), "pairs")
    with pytest.raises(BadRow, match="'chosen' is a chat written as text"):
        read(RawRow({"chosen": chat, "rejected": chat}, "x"), "implicit-pairs")


def test_a_confidence_of_nan_is_none() -> None:
    row = fixture("comparisons/batch5.json")[1]
    text = read(RawRow({**row.values, "extra": {"confidence": float("nan")}}, "x"), "openai-comparisons")
    assert "confidence" not in text.extra


@pytest.mark.parametrize("name", ["label", "completion"])
def test_a_blank_summary_of_a_post_is_refused(name: str) -> None:
    for blank in (" ", [{"role": "assistant", "content": ""}]):
        with pytest.raises(BadRow, match=f"'{name}' is empty"):
            FORMATS["carperai-posts" if name == "label" else "trl-completions"].read(
                RawRow({"prompt": "p", name: blank}, "x")
            )


# ---------------------------------------------------------------- recognising them


@pytest.mark.parametrize(
    "columns, kinds",
    [
        (["prompt", "label", "id"], ["posts"]),
        (["prompt", "chosen", "rejected"], ["pairs"]),
        (["info", "summaries", "choice", "extra"], ["pairs"]),
        (["prompt", "label", "chosen", "rejected"], ["pairs", "posts"]),
        (["text"], []),
    ],
)
def test_kinds(columns: list[str], kinds: list[str]) -> None:
    assert kinds_of(columns) == kinds


@pytest.mark.parametrize(
    "columns, mapped, name",
    [
        ("prompt completion post summary", "", "trl-completions"),
        ("prompt completion post summary", "post summary", "openai-posts"),
        ("prompt label completion", "completion", "trl-completions"),
        ("prompt label post summary", "title", "openai-posts"),
        ("prompt label post summary", "id", "carperai-posts"),
        ("prompt chosen rejected info summaries choice", "chosen rejected", "pairs"),
        ("prompt chosen rejected", "chosen rejected", "pairs"),
        ("prompt label", "post", "carperai-posts"),
    ],
)
def test_mapped_columns_choose_among_formats(columns: str, mapped: str, name: str) -> None:
    assert recognise(columns.split(), FORMATS[name].kind, "x", mapped.split()).name == name


def test_each_row_is_of_its_own_format() -> None:
    explicit, implicit = ("prompt", "chosen", "rejected"), ("chosen", "rejected")
    openai = ("info", "summaries", "choice")

    def names(*rows: tuple[str, ...]) -> list[str]:
        forms = RowFormats("pairs", {})
        return [forms.of(RawRow(dict.fromkeys(row, "x"), "x")).name for row in rows]

    assert names(implicit, explicit, implicit) == ["implicit-pairs", "pairs", "implicit-pairs"]
    assert names(explicit, openai, explicit) == ["pairs", "openai-comparisons", "pairs"]
    # A pair that lost its prompt, or any other column, is one of the first row's format, and is refused as such.
    assert names(explicit, implicit, ("prompt",), explicit) == ["pairs"] * 4
    assert names((*explicit, "batch"), explicit, (*openai, "x")) == ["pairs", "pairs", "openai-comparisons"]


@pytest.mark.parametrize(
    "columns, kind, options",
    [
        ("Post Summary", "posts", "--columns.post Post --columns.summary Summary"),
        ("Title POST sumary", "posts", "--columns.post POST --columns.summary sumary --columns.title Title"),
        ("title body tldr", "posts", "--columns.post COLUMN --columns.summary COLUMN"),
        ("Prompt Completion", "posts", "--columns.prompt Prompt --columns.completion Completion"),
        ("prompt text", "posts", "--columns.label COLUMN"),
        ("text", "posts", "--columns.post COLUMN --columns.summary COLUMN"),
        (
            "Prompt Chosen Rejected",
            "pairs",
            "--columns.prompt Prompt --columns.chosen Chosen --columns.rejected Rejected",
        ),
        ("Chosen_text Chosen", "pairs", "--columns.chosen Chosen --columns.rejected COLUMN"),
    ],
)
def test_the_options_that_are_suggested(columns: str, kind: Any, options: str) -> None:
    with pytest.raises(BadRow) as caught:
        recognise(columns.split(), kind, "x")
    assert caught.value.remedy == f"rename them, or say which is which: {options}"


def test_the_message_for_unknown_columns() -> None:
    with pytest.raises(UserError) as caught:
        recognise({"title": "t", "post": "p", "sumary": "s"}, "posts", "x.jsonl")
    assert str(caught.value) == (
        "x.jsonl: posts need the columns prompt+label or prompt+completion or post+summary "
        "(found title, post, sumary): rename them, or say which is which: --columns.summary sumary"
    )
    with pytest.raises(UserError, match=r"--columns\.chosen COLUMN --columns\.rejected COLUMN"):
        recognise(["text"], "pairs", "x.jsonl")
    with pytest.raises(
        UserError, match=r"holds pairs \(prompt, chosen .* posts are needed: give another file or split"
    ):
        recognise(["prompt", "chosen", "rejected"], "posts", "x.jsonl")


def test_formats_by_name() -> None:
    assert get_format("pairs").name == "pairs"
    with pytest.raises(UserError, match="unknown format 'openai-post'; did you mean 'openai-posts'"):
        get_format("openai-post")


# ---------------------------------------------------------------- writing them

WORD = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=":"), min_size=1, max_size=6)
LINE = st.lists(WORD, min_size=1, max_size=6).map(" ".join)
BODY = st.lists(LINE, min_size=1, max_size=4).map("\n".join)
SUMMARY = LINE.filter(lambda text: text == clean_summary(text) and bool(text))
EXTRA = st.fixed_dictionaries(
    {},
    optional={"batch": WORD, "confidence": st.integers(1, 9), "worker": WORD, "facts": st.lists(WORD, max_size=2)},
)
POSTS = st.builds(
    Post,
    id=WORD,
    prompt=st.builds(format_post, WORD, LINE, BODY),
    summary=SUMMARY,
    extra=EXTRA,
)
PAIRS = st.builds(
    Pair, id=WORD, prompt=st.builds(format_post, WORD, LINE, BODY), chosen=SUMMARY, rejected=SUMMARY, extra=EXTRA
)


def again(record: Any, name: str) -> Any:
    """What comes of a record that is written as a format, goes through JSON and is read."""
    form = FORMATS[name]
    row = json.loads(json.dumps(form.write(record)))
    assert recognise(row, form.kind, "x").read is form.read
    return form.read(RawRow(row, "x"))


@settings(deadline=None)
@pytest.mark.parametrize("name", [form.name for form in FORMATS.values() if form.kind == "posts"])
@given(post=POSTS)
def test_posts_survive_every_format(name: str, post: Post) -> None:
    text = again(post, name)
    assert (clean_prompt(text.prompt), clean_summary(text.summary)) == (post.prompt, post.summary)
    assert (text.id, text.extra) == (post.id, post.extra)


@pytest.mark.parametrize("name", ["r/x", "r/r/x", "r//x", "/x", "r//r/x"])
def test_odd_names_of_subreddits_survive(name: str) -> None:
    prompt = f"SUBREDDIT: r/{name}\nTITLE: t\nPOST: p\nTL;DR:"
    assert again(Post("1", prompt, "s"), "openai-posts").prompt == prompt


@settings(deadline=None)
@pytest.mark.parametrize("name", [form.name for form in FORMATS.values() if form.kind == "pairs"])
@given(pair=PAIRS)
def test_pairs_survive_every_format(name: str, pair: Pair) -> None:
    text = again(pair, name)
    found = (clean_prompt(text.prompt), clean_summary(text.chosen), clean_summary(text.rejected))
    assert found == (pair.prompt, pair.chosen, pair.rejected)
    assert text.id == pair.id
    assert {key: text.extra.get(key) for key in pair.extra} == pair.extra


def test_comparisons_come_back_whole() -> None:
    form = FORMATS["openai-comparisons"]
    for number, row in enumerate(fixture("hub_comparisons.jsonl")):
        text = form.read(row)
        pair = Pair(f"p{number}", text.prompt, text.chosen.strip(), text.rejected.strip(), text.extra)
        written = form.write(pair)
        assert form.read(RawRow(written, "x")) == PairText(text.prompt, text.chosen, text.rejected, pair.id, text.extra)
        assert written.keys() == {*row.values, "id"}
        for name in ("info", "worker", "batch", "split", "extra"):
            assert written[name] == row.values[name]


def test_each_dress() -> None:
    post = Post("1", "SUBREDDIT: r/pets\nTITLE: Cat\nPOST: Gone.\nTL;DR:", "The cat is gone.", extra={"batch": "b"})
    rows = {name: form.write(post) for name, form in FORMATS.items() if form.kind == "posts"}
    rest = {"id": "1", "batch": "b"}
    user, assistant = {"role": "user", "content": post.prompt}, {"role": "assistant", "content": post.summary}
    assert rows == {
        "carperai-posts": {"prompt": post.prompt + " ", "label": "The cat is gone.", **rest},
        "trl-completions": {"prompt": post.prompt, "completion": " The cat is gone.", **rest},
        "trl-chat-completions": {"prompt": [user], "completion": [assistant], **rest},
        "openai-posts": {"subreddit": "pets", "title": "Cat", "post": "Gone.", "summary": "The cat is gone.", **rest},
    }
    pair = Pair("1", post.prompt, "It is gone.", "It is back.")
    assert FORMATS["carperai-pairs"].write(pair) == {
        **{"id": "1", "prompt": "SUBREDDIT: r/pets\nTITLE: Cat\nPOST: Gone."},
        **{"chosen": "TL;DR: It is gone.", "rejected": "TL;DR: It is back."},
    }
    assert FORMATS["implicit-pairs"].write(pair)["chosen"] == post.prompt + " It is gone."


@pytest.mark.parametrize(
    "prompt", ["POST: a\n\nTL;DR:", "POST: a \nTL;DR:", "TL;DR:", "a TL;DR:", "Article:\n\na\n\nTL;DR:"]
)
def test_prompts_that_carperai_could_not_give_back_stay_whole(prompt: str) -> None:
    text = again(Pair("1", prompt, "a b", "c d"), "carperai-pairs")
    assert clean_prompt(text.prompt) == prompt


@pytest.mark.parametrize(
    "prompt", ["\n\nHuman: h\n\nAssistant:\nTL;DR:", "TITLE: t\nbody\nTL;DR:", "Article:\n\na\n\nTL;DR:"]
)
def test_prompts_that_are_no_post_are_refused(prompt: str) -> None:
    with pytest.raises(BadRow, match=r"x\.jsonl, line 2: the prompt does not consist of SUBREDDIT, TITLE and POST"):
        FORMATS["openai-posts"].write(Post("1", prompt, "s", where="x.jsonl, line 2"))


def test_a_prompt_that_could_not_be_found_again_is_refused() -> None:
    with pytest.raises(BadRow, match="1: the end of the prompt could not be found again"):
        FORMATS["implicit-pairs"].write(Pair("1", "a TL;DR:", "the cat", "the dog"))
    with pytest.raises(BadRow, match="could not be found again"):
        FORMATS["implicit-pairs"].write(Pair("1", "a\nTL;DR:", "the\nTL;DR: cat", "the\nTL;DR: dog"))


# ---------------------------------------------------------------- whatever a row holds

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "post", "article", "id"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_nothing_but_texts_and_bad_rows_comes_out(name: str, data: st.DataObject) -> None:
    form = FORMATS[name]
    row = RawRow({column: data.draw(VALUES) for column in (*form.columns, "id", "extra", "confidence")}, "x")
    try:
        text = form.read(row)
    except BadRow as bad:
        assert "\n" not in str(bad)
        return
    assert isinstance(text, PostText if form.kind == "posts" else PairText) and text.prompt.strip()
    assert text.id is None or isinstance(text.id, str)


# ---------------------------------------------------------------- real rows


@pytest.mark.parametrize(
    "name, form",
    [
        ("openai_summarize_fixture/comparisons_train.jsonl.gz", "pairs"),
        ("openai_summarize_fixture/tldr_train.jsonl.gz", "carperai-posts"),
        ("hh_helpful_pairs/pairs.jsonl.gz", "pairs"),
        ("reddit_tldr_2013/valid.jsonl.gz", "openai-posts"),
    ],
)
def test_real_rows_are_all_read(shared: Callable[[str], Path], name: str, form: str) -> None:
    import gzip

    with gzip.open(shared(name), "rt", encoding="utf-8") as lines:
        texts = [read(RawRow(json.loads(line), name), form) for line in lines]
    assert len(texts) >= 50 and all(text.prompt.strip() for text in texts)
