"""Names, sweeps and impossible values of generation options."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from tiny_engine import EOS, random_model

from trlx.functional.padding import left_pad
from trlx.generation.options import check_gen_kwargs, split_sweep, sweep_points
from trlx.generation.sampling import generate
from trlx.utils.errors import UserError


def test_unknown_names() -> None:
    with pytest.raises(UserError, match=r"unknown generation option 'gen_kwargs.max_new_token'; did you mean 'max_new"):
        check_gen_kwargs({"max_new_token": 5})
    with pytest.raises(UserError, match=r"'gen_kwargs.betta'; did you mean 'beta'"):
        check_gen_kwargs({"betta": 1}, extra=("beta",))
    check_gen_kwargs({"beta": [1, 2], "temperature": [0.5, 1.0], "top_k": 3}, extra=("beta",))
    with pytest.raises(UserError, match=r"stop_strings.*give stop_sequences to trlx.train"):
        check_gen_kwargs({"stop_strings": ["x"]})


def test_sweeps_golden() -> None:
    lists = {"eos_token_id": [1, 2], "bad_words_ids": [[5]]}
    gen_kwargs = {"top_k": [20, 50], "max_new_tokens": 8, **lists, "beta": (1, 4)}
    fixed, sweeps = split_sweep(gen_kwargs)
    assert fixed == {"max_new_tokens": 8, **lists}
    assert sweeps == {"top_k": [20, 50], "beta": [1, 4]}
    assert sweep_points(sweeps) == [
        ("@top_k=20@beta=1", {"top_k": 20, "beta": 1}),
        ("@top_k=20@beta=4", {"top_k": 20, "beta": 4}),
        ("@top_k=50@beta=1", {"top_k": 50, "beta": 1}),
        ("@top_k=50@beta=4", {"top_k": 50, "beta": 4}),
    ]
    assert sweep_points({"beta": [1, 4]}) == [("@beta=1", {"beta": 1}), ("@beta=4", {"beta": 4})]
    assert sweep_points({}) == [("", {})]
    with pytest.raises(UserError, match=r"'gen_kwargs.beta' is an empty list"):
        split_sweep({"beta": []})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": [0.5, 1.0]}, "'gen_kwargs.temperature' is a list"),
        ({"do_sample": True, "temperature": 0.0}, "'gen_kwargs.temperature' is 0.0: it must be above 0"),
        ({"do_sample": True, "top_k": -1}, "'gen_kwargs.top_k' is -1"),
        ({"do_sample": True, "top_p": 0.0}, "'gen_kwargs.top_p' is 0.0"),
        ({"max_new_tokens": 0}, "'gen_kwargs.max_new_tokens' is 0"),
        ({"max_new_tokens": None, "max_length": 3}, "more than the prompts' 3 tokens"),
    ],
)
def test_impossible_values(options: dict[str, Any], message: str) -> None:
    ids, mask = left_pad([[5, 6, 7]], EOS)
    with pytest.raises(UserError, match=message):
        generate(random_model("llama"), ids, mask, {"max_new_tokens": 4, **options}, EOS, EOS)


def test_cuts_warn_where_logprobs_are_recorded() -> None:
    model, (ids, mask) = random_model("llama"), left_pad([[5, 6, 7]], EOS)
    for cut in ({"top_k": 5}, {"top_p": 0.9}, {"suppress_tokens": [9]}):
        settings = {"max_new_tokens": 2, "do_sample": True, **cut}
        with pytest.warns(UserWarning, match=f"{next(iter(cut))} change the distribution"):
            generate(model, ids, mask, settings, EOS, EOS, with_logprobs=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            generate(model, ids, mask, settings, EOS, EOS)
