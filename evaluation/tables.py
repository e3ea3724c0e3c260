"""The tables of an evaluation, for the console (rich) and as Markdown; the JSON is `Results.to_json`.

ROUGE and reward tables have the columns of the summarization-RLHF example this project reproduces, with 95% intervals
in the cells; further columns (gold score, KL) follow on the right where they are known. Baselines have rows as models
have.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from evaluation.degeneration import FAULTS
from evaluation.results import ModelSummary, Results
from evaluation.statistics import Difference
from evaluation.table import Table, label, number, p_value
from evaluation.win_rates import Preference

_NAMES = {
    "reward": "Reward",
    "second_reward": "Second reward",
    "gold": "Gold score",
    "rouge1": "Rouge-1",
    "rouge2": "Rouge-2",
    "rougeL": "Rouge-L",
    "rouge_average": "Rouge average",
    "rouge1_stemmed": "Rouge-1, stemmed",
    "rouge2_stemmed": "Rouge-2, stemmed",
    "rougeL_stemmed": "Rouge-L, stemmed",
    "response_tokens": "Response tokens",
}
_EXPLAINED = {
    "ppo_heldout": "PPO-held: PPO's best checkpoint by the score held out",
    "first_sentence": "Lead-1: the post's first sentence",
    "first_30_words": "Lead-30: its first 30 words",
}
_JUDGES = {"reward model": "reward", "second reward model": "second"}


def all_tables(results: Results) -> list[Table]:
    """In the order of the console: ROUGE, rewards, win rates, differences from the baseline, faults."""
    tables = [rouge_table(results), stemmed_table(results), reward_table(results)]
    if results.ground_truth_second:
        tables.append(second_reward_table(results))
    tables += [win_table(results, against) for against in dict.fromkeys(row.against for row in results.preferences)]
    tables += [difference_table(results, name) for name in results.differences]
    return [*tables, fault_table(results)]


def rouge_table(results: Results) -> Table:
    """| Model | Rouge-1 | Rouge-2 | Rouge-L | Average |"""

    def row(model: ModelSummary) -> list[str]:
        values = (model.rouge1, model.rouge2, model.rougeL, model.rouge_average)
        return [label(model.name), *(number(value) for value in values)]

    return Table(
        title="ROUGE scores",
        header=["Model", "Rouge-1", "Rouge-2", "Rouge-L", "Average"],
        rows=[row(model) for model in results.models],
        caption=f"F1; mean over {_conditions(results)}; stemmer off, aggregator off. {_INTERVALS}{_names(results)}",
    )


def stemmed_table(results: Results) -> Table:
    """| Model | Rouge-1 | Rouge-2 | Rouge-L |, words reduced to their stems before they are compared."""
    return Table(
        title="ROUGE scores, stemmed",
        header=["Model", "Rouge-1", "Rouge-2", "Rouge-L"],
        rows=[
            [label(model.name), *(number(value) for value in model.rouge_stemmed.values())] for model in results.models
        ],
        caption=f"F1; mean over {_conditions(results)}; Porter's stemmer on. {_INTERVALS}",
    )


def reward_table(results: Results) -> Table:
    """| Model | Average Reward | Reward Δ | (Gold |) (KL to SFT |)"""
    has_gold = any(model.gold for model in results.models)
    has_kl = any(model.kl for model in results.models)
    header = ["Model", "Average Reward", "Reward Δ"]
    header += ["Gold"] * has_gold + [f"KL to {label(results.baseline)}"] * has_kl

    def row(model: ModelSummary) -> list[str]:
        cells = [label(model.name), number(model.reward), number(model.reward_delta, signed=True)]
        cells += [number(model.gold)] * has_gold
        return cells + [_kl(model, results.baseline)] * has_kl

    truth = f"Ground truth mean reward: {number(results.ground_truth_reward)}"
    if results.ground_truth_gold:
        truth += f"; gold: {number(results.ground_truth_gold)}"
    caption = f"Mean over {_conditions(results)}. Δ: against the ground truth. {_INTERVALS}"
    return Table(
        title="Reward scores",
        header=header,
        rows=[row(model) for model in results.models],
        caption=caption + (_kl_caption(results) if has_kl else ""),
        above=truth + ".",
    )


def second_reward_table(results: Results) -> Table:
    """| Model | Second reward | Δ |: the judge that nothing was trained against."""
    return Table(
        title="Second reward model",
        header=["Model", "Second Reward", "Second Reward Δ"],
        rows=[
            [label(model.name), number(model.second_reward), number(model.second_reward_delta, signed=True)]
            for model in results.models
        ],
        caption=f"Never trained against. Mean over {_conditions(results)}. Δ: against the ground truth. {_INTERVALS}",
        above=f"Ground truth mean second reward: {number(results.ground_truth_second)}.",
    )


def win_table(results: Results, against: str) -> Table:
    """| Model | Judge | Win / tie / loss | Rate | At equal length |"""

    def row(one: Preference) -> list[str]:
        shares = " / ".join(f"{100 * share:.0f}" for share in (one.win, one.tie, one.loss))
        return [
            label(one.model),
            _JUDGES.get(one.judge, one.judge),
            f"{shares} %",
            number(one.rate),
            number(one.length_controlled),
        ]

    return Table(
        title=f"Win rates against the {against}" if against == "reference" else f"Win rates against {label(against)}",
        header=["Model", "Judge", "Win / tie / loss", "Rate", "Equal length"],
        rows=[row(one) for one in results.preferences if one.against == against],
        caption=f"Share of {_conditions(results)}; a tie, as of the same text, counts half in the rate. Equal length: "
        "a logistic regression on the log length ratio in words, read at ratio 1; a dash where hardly any post has "
        "summaries of like length. Brackets: 95% intervals over posts; of the rate Wilson's without ties and a "
        "percentile bootstrap with them, at equal length from robust standard errors.",
    )


def _kl(model: ModelSummary, baseline: str) -> str:
    if model.name == baseline:
        return "0"
    return number(model.kl.k1 if model.kl else None, digits=2)


def _kl_caption(results: Results) -> str:
    posts = next(model.kl.k1.n for model in results.models if model.kl)
    k3 = ", ".join(f"{label(model.name)} {number(model.kl.k3, digits=2)}" for model in results.models if model.kl)
    return (
        f" KL: nats a response, Σ k1 over response tokens of one sample a post at temperature 1, {posts} posts"
        f" (Σ k3: {k3})."
    )


def difference_table(results: Results, name: str) -> Table:
    """| Measure | Difference | 95% interval | p |, model − baseline."""

    def row(measure: str, value: Difference) -> list[str]:
        digits = 1 if measure == "response_tokens" else 3
        mean, _, interval = number(value, digits, signed=True).partition(" ")
        return [_NAMES[measure], mean, interval or "–", p_value(value.p)]

    return Table(
        title=f"{label(name)} − {label(results.baseline)}",
        header=["Measure", "Difference", "95% interval", "p"],
        rows=[row(measure, value) for measure, value in results.differences[name].items()],
        caption=f"Paired by post; mean over {_conditions(results)}. {_INTERVALS} p: two-sided permutation test, signs "
        "of the differences turned at random.",
    )


def fault_table(results: Results) -> Table:
    """| Model | Response tokens | Empty | No EOS | Repeats | Copied lead | Copied title |"""

    def row(model: ModelSummary) -> list[str]:
        shares = [f"{100 * share.mean:.1f}%" for share in model.faults.values()]
        return [label(model.name), number(model.response_tokens, digits=1), *shares]

    names = [name.replace("_", " ").capitalize().replace("eos", "EOS") for name in FAULTS]
    return Table(
        title="Lengths and degenerate outputs",
        header=["Model", "Response tokens", *names],
        rows=[row(model) for model in results.models],
        caption=f"Tokens with EOS, mean over {_conditions(results)}. No EOS: cut at the limit. Repeats: a run of four "
        "words three times, or a sentence twice. Copied: word for word from the start of the post, or its title. "
        "Intervals of the shares are in results.json.",
    )


def _names(results: Results) -> str:
    """What the names of this run's rows stand for."""
    said = [_EXPLAINED[model.name] for model in results.models if model.name in _EXPLAINED]
    return "".join(f" {text}." for text in said)


def _conditions(results: Results) -> str:
    return f"{results.posts} posts of split '{results.run['split']}', {results.run['decoding_text']}"


_INTERVALS = "Brackets: 95% bootstrap interval over posts (percentile)."


def to_markdown(results: Results, extra: Sequence[str] = ()) -> str:
    """One page with every table; `extra` lines come first, as a list."""
    bullets = "".join(f"- {line}\n" for line in extra)
    head = f"# Evaluation on {results.run['data']}, split {results.run['split']}\n\n{bullets}"
    return "\n".join([head, *(table.to_markdown() for table in all_tables(results))])


def print_tables(results: Results, console: Console) -> None:
    """Every table to the terminal."""
    for table in all_tables(results):
        table.print(console)
        console.print()
