"""Steering a writer of film reviews with PPO: the exercise from beginning to end, in cells.

Run it as a script, or cell by cell in an editor that knows `# %%`; each cell asks a question and answers it.

    python examples/sentiment_steering/steer.py                                           a minute, no network
    python examples/sentiment_steering/steer.py --source imdb-files --data DIR            IMDB, models from scratch
    python examples/sentiment_steering/steer.py --source hub                              GPT-2 and DistilBERT
    python examples/sentiment_steering/steer.py --source hub --reward_model ProsusAI/finbert --prompts headlines.txt

RLHF has three stages: a language model is pretrained, a reward model learns what people like, and reinforcement
learning tunes the first to please the second. Here people have labelled reviews; the reward model is a classifier of
those, and can ask for praise, for blame, or for neither.
"""

# %% Set-up.
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]) if "__file__" in globals() else str(Path.cwd()))

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import trlx
from evaluation.statistics import proportion
from evaluation.table import number
from examples.sentiment_steering import prompts as prompting
from examples.sentiment_steering import rewards, tables
from examples.sentiment_steering.options import read_options
from examples.sentiment_steering.search import search
from examples.sentiment_steering.sources import open_material, out_of, ppo_settings
from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ppo_config
from trlx.generation.sampling import generate_texts
from trlx.utils.files import write_text
from trlx.utils.terminal import open_console

options = read_options()
console = open_console()
# A judge of one's own is refused before anything is made, if it has no such label.
own_judge = rewards.load_judge(options.reward_model, options.label) if options.reward_model else None
own_prompts = prompting.read_prompts(options.prompts) if options.prompts else None
material = open_material(options)
judge = own_judge or rewards.load_judge(material.judge, options.label)
torch.manual_seed(options.seed)

# %% How are the reviews split into positive and negative?
# A model that has read them writes about as many positive reviews as it has read: what we steer away from.
labels = material.train.labels
console.print(f"{len(labels)} reviews: {sum(labels)} positive, {len(labels) - sum(labels)} negative")

# %% What are good prompts?
# The first three to five words of each review. Those of the held-out reviews are kept for before and after.
train_prompts = own_prompts or prompting.first_words(material.train.texts)
heldout_prompts = own_prompts or prompting.first_words(material.heldout.texts)
console.print("Prompts:", train_prompts[:5])

# %% What does the model write after such a prompt, before any reinforcement?
# `generate` samples; top_p = .95 leaves out the unlikeliest words that share the last 5% of the probability.
device = "cuda" if torch.cuda.is_available() else "cpu"
tokenizer = AutoTokenizer.from_pretrained(material.writer, padding_side="left")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
writer: Any = AutoModelForCausalLM.from_pretrained(material.writer)
writer = writer.to(device).eval()
config = TRLConfig.update(default_ppo_config(), ppo_settings(material, options, "positive"))
gen_kwargs: dict[str, Any] = config.to_dict()["method"]["gen_kwargs"]

batch = tokenizer(train_prompts[:4], return_tensors="pt", padding=True).to(device)
made = writer.generate(
    input_ids=batch["input_ids"],
    attention_mask=batch["attention_mask"],
    do_sample=True,
    top_p=0.95,
    max_new_tokens=gen_kwargs["max_new_tokens"],
    pad_token_id=tokenizer.pad_token_id,
)
reviews = tokenizer.batch_decode(made, skip_special_tokens=True)
for review in reviews:
    console.print("-", review)

# %% How good is each of them, by plain PyTorch?
# Text to tokens, tokens to logits, logits through softmax to probabilities; the column of the label is the reward.
by_hand = rewards.by_torch(judge, reviews)
console.print(f"p({judge.label}) by PyTorch:", [round(p, 4) for p in by_hand])

# %% And by a pipeline?
# Part A: transformers' pipeline gives the score of every label (top_k), cuts what is too long, and works in batches.
# Part B: one number is picked out of what it returns. It must be the same number.
by_pipeline = rewards.by_pipeline(judge)
console.print(f"p({judge.label}) by pipeline:", [round(p, 4) for p in by_pipeline(reviews)])
assert all(abs(a - b) < 1e-5 for a, b in zip(by_hand, by_pipeline(reviews), strict=True))
score = by_pipeline

# %% Can the judge be trusted?
# It is asked about reviews of films it has not met, in pieces as short as what it will have to judge.
if own_judge is None:
    unseen = material.heldout.in_pieces(material.piece)
    right = [(p > 0.5) == bool(label) for p, label in zip(score(unseen.texts), unseen.labels, strict=True)]
    console.print(f"The judge is right about {number(proportion(sum(right), len(right)))} of {len(right)} short texts")

# %% Which prompts sound positive, negative or neutral already?
# The judge says. The three kinds are where we start from, before and after.
distinct = sorted(set(heldout_prompts))
kinds = prompting.by_kind(distinct, score(distinct), options.count or material.count)
for kind, some in kinds.items():
    console.print(f"{kind}:", some[:4])

# %% How does the model continue each kind, before any reinforcement?
# As PPO will sample: without top_p. A second judge, which no reward comes from, will tell whether the first was fooled.
second: rewards.Score | None = None
if material.second and own_judge is None:
    second = rewards.by_pipeline(rewards.load_judge(material.second, options.label))


def continued(model: Any, texts: Sequence[str]) -> list[str]:
    """What the model adds to each text."""
    return [one.text for one in generate_texts(model, tokenizer, texts, gen_kwargs, batch_size=100)]


def judged(model: Any) -> dict[str, tables.Judged]:
    """Continuations of every kind of prompt, judged; the same draws whenever it is called."""
    torch.manual_seed(options.seed)
    repeats = {kind: repeated(some) for kind, some in kinds.items()}
    return {kind: tables.judge_outputs(some, continued(model, some), score, second) for kind, some in repeats.items()}


def repeated(some: Sequence[str]) -> list[str]:
    """A kind's prompts, again and again where there are too few of them for an interval."""
    wanted = options.count or material.count
    return [some[row % len(some)] for row in range(wanted)]


before = judged(writer)

# %% What does trlX need?
# A configuration, a reward function, prompts, and prompts for evaluation. The configuration is trlX's for this task;
# the source changes what its models' size asks for. Neutral is what leaves the judge in doubt: reward 1 at p = .5.
for goal in options.goals:
    console.print(f"{goal}: reward of p = 0, .25, .5, 1:", [rewards.GOALS[goal](p) for p in (0.0, 0.25, 0.5, 1.0)])


def steered(goal: str) -> Any:
    """The writer after PPO towards a goal; it is kept in the output folder too, for transformers to load."""
    trainer: Any = trlx.train(
        reward_fn=rewards.reward_fn(score, goal),
        prompts=train_prompts,
        eval_prompts=[prompt for some in kinds.values() for prompt in some[:20]],
        config=TRLConfig.update(default_ppo_config(), ppo_settings(material, options, goal)),
    )
    folder = out_of(options, goal)
    trainer.save_pretrained(str(folder))
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    return model.to(device).eval()


# %% Reinforce positive, negative and neutral sentiment: what becomes of positive, negative and neutral prompts?
# One PPO run for each goal, each from the same writer, each looked at from all three kinds of prompt. What is shown is
# kept in the output folder too.
tuned: dict[str, Any] = {}
after: dict[str, dict[str, tables.Judged]] = {}
for goal in options.goals:
    tuned[goal] = steered(goal)
    after[goal] = judged(tuned[goal])
    table = tables.before_after(goal, judge.label, before, after[goal])
    table.print(console)
    shown = tables.examples(before, after[goal])
    console.print("\n".join(shown))
    write_text(options.folder / f"{goal}.md", "\n".join([table.to_markdown(), "```", *shown, "```", ""]))

# %% Does another reward need other code?
# No: any classifier with named labels will do. `--reward_model ProsusAI/finbert --label positive --prompts FILE` steers
# by the tone of financial news, from a file of headlines; `--label neutral` asks for the judge's own third class.
console.print(f"This judge's labels: {', '.join(judge.labels)}; the reward is of {judge.label}")

# %% What is the most positive text that the tuned model writes?
# Sampling many and keeping the best, a few tokens at a time: each of the best is continued in several ways, and the
# judge says which are kept. It is the judge's favourite, not a person's: see what a classifier takes for bliss.
ROUNDS, WIDTH, BRANCH = 4, 8, 16


def extend(texts: Sequence[str]) -> list[str]:
    """Each text with a quarter of a response added."""
    few = gen_kwargs | {"max_new_tokens": max(1, gen_kwargs["max_new_tokens"] // ROUNDS)}
    added = generate_texts(searched, tokenizer, texts, few, batch_size=WIDTH * BRANCH)
    return [text + more.text for text, more in zip(texts, added, strict=True)]


searched = tuned.get("positive", writer)
torch.manual_seed(options.seed)
found = search(kinds["neutral"][:WIDTH], extend, score, WIDTH, BRANCH, ROUNDS)
console.print(f"Best of {len(found.scores)} texts, p({judge.label}) = {found.score:.4f}: {found.text}")
