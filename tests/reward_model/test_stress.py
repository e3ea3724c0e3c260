"""The stress edits, word for word."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_model.role_swap import TABLE, swap_roles
from reward_model.stress import EDITS, ReferencePost, edited_references, prefers_reference, sentences, stress_texts

POST = ReferencePost(
    "p1", "My cat ran off", "It was late. I slept! Where is she?\nI cried. The end.", "I slept. The cat ran."
)
PLAIN = ReferencePost("p2", "", "", "Nobody knows")


def made(posts: list[ReferencePost]) -> dict[tuple[int, str], str]:
    return {(one.post, one.edit): one.text for one in edited_references(posts)}


def test_every_edit_golden() -> None:
    assert made([POST, PLAIN]) == {
        (0, "title_twice"): "My cat ran off My cat ran off",
        (0, "shuffled_sentences"): "The cat ran. I slept.",
        (0, "role_swap"): "He slept. The cat ran.",
        (0, "first_three_sentences"): "It was late. I slept! Where is she?",
        (0, "truncated"): "I slept.",
        (0, "other_post"): "Nobody knows",
        (1, "other_post"): "I slept. The cat ran.",
    }


def test_an_edit_that_changes_nothing_is_not_made() -> None:
    same = ReferencePost("p", "", "One thing.  Two things.", "One thing. Two things.")
    assert "first_three_sentences" not in {edit for _, edit in made([same])}
    assert "shuffled_sentences" not in {edit for _, edit in made([ReferencePost("p", "", "", "Same. Same. Same.")])}
    assert made([PLAIN]) == {}  # no other post, no title, no body, too short


def test_the_other_post_is_never_of_the_same_prompt() -> None:
    posts = [ReferencePost("p", "", "", f"summary {number}") for number in range(3)]
    assert "other_post" not in {edit for _, edit in made(posts)}
    posts.append(ReferencePost("q", "", "", "of q"))
    assert {text for (_, edit), text in made(posts).items() if edit == "other_post"} == {"of q", "summary 0"}


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=6).filter(lambda parts: len(set(parts)) > 1))
def test_shuffling_keeps_the_sentences(parts: list[str]) -> None:
    text = " ".join(f"{part}." for part in parts)
    shuffled = made([ReferencePost("p", "", "", text)])[0, "shuffled_sentences"]
    assert shuffled != text and sorted(sentences(shuffled)) == sorted(sentences(text))


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("My mother hates my job.", "His father hates his job."),
        ("I am 20 and I've lost my keys, he's mad at me", "He is 20 and he has lost his keys, I'm mad at him"),
        ("She has a boyfriend and I want him.", "I have a girlfriend and he wants me."),
        ("The Landlord (his wife) sued her", "The Tenant (my husband) sued my"),
        ("GF asked how do I do this", "BF asked how does he do this"),
        ("Does she love me? Do I know?", "Do I love him? Does he know?"),
        ("Mum said I’m rude", "Dad said he’s rude"),
        ("She’ll leave, I don't know", "I’ll leave, he doesn't know"),
        ("My dog’s toy: it isn’t mine", "His dog’s toy: it isn’t his"),
        ("I'LL go, i.e. to my home", "HE'LL go, i.e. to his home"),
        ("A.I. took my job.I cried", "A.I. took his job.He cried"),
        ("Something imported: a history of theirs", "Something imported: a history of theirs"),
    ],
)
def test_roles_golden(text: str, swapped: str) -> None:
    assert swap_roles(text) == swapped


def test_people_change_places_and_back() -> None:
    for one in ("mother", "boss", "gf", "landlord", "sister"):
        assert TABLE[TABLE[one]] == one


def test_a_reference_is_compared_with_its_own_edit() -> None:
    posts = [POST, PLAIN]
    edited = edited_references(posts)
    texts = stress_texts(posts, edited)
    assert texts[:2] == [("p1", POST.summary), ("p2", PLAIN.summary)] and ("p2", "I slept. The cat ran.") in texts
    scores = {text: 0.0 for text in texts}
    scores |= {("p1", POST.summary): 2.0, ("p1", "I slept."): 3.0, ("p2", PLAIN.summary): 0.0}
    outcomes = prefers_reference(edited, [scores[text] for text in texts])
    assert outcomes["truncated"] == [0.0] and outcomes["title_twice"] == [1.0] and outcomes["other_post"] == [1.0, 0.5]
    assert list(outcomes) == list(EDITS)
    broken = prefers_reference(edited, [math.nan] * len(texts))
    assert all(math.isnan(value) for values in broken.values() for value in values)
