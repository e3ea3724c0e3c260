"""OpenAssistant's conversations, as messages and as trees: the same instructions come out of both."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.instructions.example import Choice, Example
from tasks.instructions.oasst import of_messages, of_trees
from tasks.reading.rows import BadRow, RawRow, Skipped, stop

Tree = dict[str, Any]


def says(text: str, *replies: Tree, **more: Any) -> Tree:
    """A message of a tree without its role; those below it take turns."""
    return {"text": text, "lang": "en", "rank": None, "deleted": False, "replies": list(replies), **more}


BREAD = says(
    "How do I keep bread fresh?",
    says("In the fridge.", rank=1),
    says("In a paper bag.", says("And in summer?", says("Freeze it."), says("Eat faster.")), rank=0),
    says("Do not.", rank=2),
)


def as_tree(tree: Tree) -> RawRow:
    """A row of a file of trees; messages are numbered in their order."""
    numbers = itertools.count(1)

    def with_names(node: Tree, role: str) -> Tree:
        other = "assistant" if role == "prompter" else "prompter"
        named = {"role": role, **node, "message_id": f"m{next(numbers)}"}
        return {**named, "replies": [with_names(reply, other) for reply in node["replies"]]}

    return RawRow({"message_tree_id": "m1", "prompt": with_names(tree, "prompter")}, "trees.jsonl, line 1")


def as_messages(tree: Tree) -> list[RawRow]:
    """The same as rows of a message each."""
    found: list[dict[str, Any]] = []

    def collect(node: Tree, parent: str | None) -> None:
        found.append({name: value for name, value in node.items() if name != "replies"} | {"parent_id": parent})
        for reply in node["replies"]:
            collect(reply, node["message_id"])

    collect(as_tree(tree).values["prompt"], None)
    return [RawRow(row, f"messages.jsonl, line {number}") for number, row in enumerate(found, start=1)]


def brief(examples: Any) -> list[tuple[str, list[tuple[str, int | None]]]]:
    found: list[Example] = list(examples)
    assert all(example.context == "" for example in found)
    return [(one.instruction, [(answer.text, answer.rank) for answer in one.answers]) for one in found]


def read(tree: Tree, **how: Any) -> list[tuple[str, list[tuple[str, int | None]]]]:
    """What both shapes give."""
    of_both = [brief(of_trees([as_tree(tree)], Choice(stop, **how)))]
    of_both += [brief(of_messages(order(as_messages(tree)), Choice(stop, **how))) for order in (list, reversed)]
    assert of_both[0] == of_both[1]
    # A reply may stand before what it replies to; those without a rank then come in another order.
    assert sorted(map(repr, of_both[2])) == sorted(map(repr, of_both[0])) or any(
        None in dict(a).values() for _, a in of_both[0]
    )
    return of_both[0]


FIRST = (
    "How do I keep bread fresh?",
    [("In a paper bag.", 0), ("In the fridge.", 1), ("Do not.", 2)],
)


def test_the_answers_to_a_first_message_by_rank() -> None:
    assert read(BREAD) == [FIRST]


def test_later_turns_are_dialogues() -> None:
    summer = (
        "\n\nHuman: How do I keep bread fresh?\n\nAssistant: In a paper bag.\n\nHuman: And in summer?\n\nAssistant:",
        [("Freeze it.", None), ("Eat faster.", None)],
    )
    assert read(BREAD, turns="all") == [FIRST, summer]
    assert read(BREAD, turns="all", limit=1) == [FIRST]


def test_answers_without_a_rank_come_last() -> None:
    tree = says("Q", says("a"), says("b", rank=1), says("c", rank=0.0), says("d", rank=float("nan")))
    assert read(tree) == [("Q", [("c", 0), ("b", 1), ("a", None), ("d", None)])]


def test_a_first_message_without_replies() -> None:
    assert read(says(" Q\n")) == [("Q", [])]


@pytest.mark.parametrize("how", [{"deleted": True}, {"review_result": False}, {"deleted": True, "text": ""}])
def test_what_was_deleted_or_refused_goes_with_all_below_it(how: dict[str, Any]) -> None:
    tree = says("Q", {**says("a", says("Q2", says("b"))), **how}, says("c"))
    assert read(tree, turns="all") == [("Q", [("c", None)])]
    choice = Choice(stop)
    assert brief(of_trees([as_tree({**BREAD, **how})], choice)) == []
    assert choice.dropped == {"deleted or refused": 1}


def test_a_language() -> None:
    german = says("Wie spät ist es?", says("Drei.", lang="de"), lang="de")
    mixed = says("Q", says("sí", lang="es"), says("yes", lang="en"), says("oui", lang="fr"), lang="en")
    assert read(german, lang="en") == []
    assert read(german, lang="DE") == [("Wie spät ist es?", [("Drei.", None)])]
    assert read(mixed, lang="en") == [("Q", [("yes", None)])]
    assert len(read(mixed)[0][1]) == 3
    brazil = says("Q", says("a", lang="pt-BR"), lang="pt-BR")
    assert read(brazil, lang="pt") == read(brazil, lang="pt-BR") == [("Q", [("a", None)])]
    assert read(brazil, lang="p") == []
    choice = Choice(stop, lang="en")
    assert list(of_trees(map(as_tree, [german, mixed, brazil]), choice))
    assert choice.dropped == {"in another language": 4}


# ---------------------------------------------------------------- bad rows


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"role": "assistent"}, "line 2: a role must be prompter or assistant ('role' is 'assistent'): mend or drop"),
        ({"text": " "}, "line 2: 'text' is empty: mend or drop the row"),
        ({"text": None}, "line 2: 'text' is empty (null)"),
        ({"rank": "best"}, "line 2: 'rank' is not a whole number ('best')"),
        ({"rank": 0.5}, "line 2: 'rank' is not a whole number (0.5)"),
        ({"message_id": ""}, "line 2: 'message_id' is empty"),
        ({"message_id": "m1"}, "line 2: a message for the second time (message_id 'm1')"),
        ({"parent_id": "m9"}, "line 2: a reply to a message that is not there (parent_id 'm9'): add it, or mend"),
        ({"parent_id": None}, "line 2: a conversation must begin with the prompter"),
        ({"role": "prompter"}, "line 2: a reply by the role that it replies to (prompter)"),
    ],
)
def test_bad_messages(change: dict[str, Any], reason: str) -> None:
    rows = as_messages(says("Q", says("a"), says("b")))
    rows[1] = RawRow(rows[1].values | change, rows[1].where)
    with pytest.raises(BadRow) as caught:
        list(of_messages(rows, Choice(stop)))
    assert str(caught.value).startswith(f"messages.jsonl, {reason}")
    skipped = Skipped()
    assert brief(of_messages(rows, Choice(skipped))) == [("Q", [("b", None)])]
    assert skipped.counts.total() == 1


@pytest.mark.parametrize(
    "reply, reason",
    [
        ("a", "line 1: a message must be an object, and its 'replies' a list"),
        (
            {**says("a"), "message_id": "x", "role": "assistant", "replies": {"a": 1}},
            "line 1: a message must be an obj",
        ),
        ({**says(""), "message_id": "x", "role": "assistant"}, "line 1, message x: 'text' is empty"),
        ({**says("a"), "role": "assistant"}, "line 1, message None: no column 'message_id'"),
    ],
)
def test_bad_trees(reply: Any, reason: str) -> None:
    row = as_tree(says("Q", says("b")))
    row.values["prompt"]["replies"].insert(0, reply)
    with pytest.raises(BadRow) as caught:
        list(of_trees([row], Choice(stop)))
    assert str(caught.value).startswith(f"trees.jsonl, {reason}")
    assert brief(of_trees([row], Choice(Skipped()))) == [("Q", [("b", None)])]


def test_a_tree_without_a_message() -> None:
    skipped = Skipped()
    assert list(of_trees([RawRow({"message_tree_id": "x", "prompt": None}, "here")], Choice(skipped))) == []
    assert skipped.counts.total() == 1


def test_a_very_long_conversation() -> None:
    tree = says("last")
    for number in range(300):
        tree = says(f"turn {number}", tree)
    assert len(read(tree, turns="all")) == 151


# ---------------------------------------------------------------- whatever the tree

NODE = st.builds(
    says,
    st.sampled_from(["a", "b", "c d"]),
    rank=st.sampled_from([None, 0, 1, 2]),
    deleted=st.booleans(),
    lang=st.sampled_from(["en", "de"]),
)
TREES = st.recursive(
    NODE, lambda below: st.tuples(NODE, st.lists(below, max_size=3)).map(lambda two: {**two[0], "replies": two[1]})
)


@settings(deadline=None)
@given(tree=TREES, lang=st.sampled_from([None, "en"]), turns=st.sampled_from(["first", "all"]))
def test_trees_and_messages_give_the_same(tree: Tree, lang: str | None, turns: Any) -> None:
    choices = [Choice(stop, lang, turns), Choice(stop, lang, turns)]
    found = list(of_trees([as_tree(tree)], choices[0]))
    again = list(of_messages(as_messages(tree), choices[1]))
    assert brief(found) == brief(again) and choices[0].dropped == choices[1].dropped
    for example in found:
        ranks = [answer.rank for answer in example.answers if answer.rank is not None]
        assert ranks == sorted(ranks)
