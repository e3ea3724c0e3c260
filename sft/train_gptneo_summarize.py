"""Supervised fine-tuning of a causal language model on posts and their reference summaries.

    deepspeed sft/train_gptneo_summarize.py
    deepspeed --num_accelerators 2 sft/train_gptneo_summarize.py --config configs/tiny/sft.yaml --root runs/demo
    python sft/train_gptneo_summarize.py --config configs/sft.yaml        (one process, no DeepSpeed)

The loss covers the summary and its EOS only; each evaluation also writes summaries greedily and measures their ROUGE.
The best model by `best_metric` ends in `<root>/ckpts/sft`, in float32. Left out: packing several posts into one row.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from transformers import AutoModelForCausalLM

from launch.stage import (
    CACHE,
    Stage,
    StageOptions,
    begin_stage,
    finish_stage,
    publish_model,
    ranks,
)
from launch.stage_trainer import Rows, StageTrainer
from sft.collator import SummaryCollator
from sft.loss import SummaryObjective
from sft.posts import encode_posts
from sft.rouge import METRICS, GeneratedRouge
from tasks.chosen import Chosen, train_and_valid
from tasks.encoding import at_least_one, cut_prompts, divided, with_response
from tasks.reading.rows import OnBadRows, Skipped, choose_on_bad
from tasks.reading.sources import named
from tasks.records import Post
from tasks.registry import get_task
from tasks.run_folder import default_under, fill_places
from tasks.task import say_skipped
from trlx.pipeline.token_store import TokenStore
from trlx.utils.cli import parse_config
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import UserError, run_main
from trlx.utils.pretrained import (
    load_config,
    load_model,
    load_tokenizer,
    require_positions,
    require_vocabulary,
    require_whole,
)
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, require_ranges

RANGES = {
    **dict.fromkeys(("train_limit", "valid_limit", "rouge_batch_size", "max_new_tokens"), AT_LEAST_1),
    "rouge_samples": AT_LEAST_0,
}


@dataclass
class SftOptions(StageOptions):
    """Options of supervised fine-tuning.

    Args:
        task: how rows of data are read; see `tasks/`.
        data: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz).
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.summary tldr`.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        cache: folder of encoded data, found again by their content; null encodes anew each time.
        valid_data: the same, of the evaluation posts; null for the data above.
        valid_percentage: hold out this share of the training posts, by their prompts, and evaluate on those; null for
            none.
        train_split: the split to train on.
        valid_split: the split to evaluate on.
        train_limit: the first so many training posts; null for all.
        valid_limit: the first so many evaluation posts; null for all.
        loss_on_prompt: learn the prompt's tokens too.
        rouge_samples: evaluation posts to summarise and score at each evaluation; 0 for none.
        rouge_batch_size: posts summarised at once.
        max_new_tokens: longest summary that is written.
    """

    model: str = "EleutherAI/gpt-neo-1.3B"
    adam_beta2: float = 0.95
    save_steps: int = 1000
    deepspeed: str | None = "{repo}/configs/ds_config_sft.json"
    task: str = "tldr"
    data: str = "CarperAI/openai_summarize_tldr"
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    cache: str | None = CACHE
    valid_data: str | None = None
    valid_percentage: float | None = None
    train_split: str = "train"
    valid_split: str = "valid"
    train_limit: int | None = None
    valid_limit: int | None = 2000
    loss_on_prompt: bool = False
    rouge_samples: int = 64
    rouge_batch_size: int = 16
    max_new_tokens: int = 50


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    options = parse_config(SftOptions, "Supervised fine-tuning on posts and their reference summaries.", argv)
    with ranks():
        train(fill_places(options, options.root))


def train(options: SftOptions) -> Path:
    """Run the stage; returns the folder the model is in. Call on every rank, within `launch.stage.ranks`."""
    began = time.monotonic()
    if options.rouge_samples and options.max_new_tokens >= options.max_length:
        raise UserError(
            f"--max_new_tokens {options.max_new_tokens} leaves no room in --max_length {options.max_length}"
        )
    require_ranges(options, RANGES)
    metrics = ["loss", *(METRICS if options.rouge_samples else ())]
    stage = begin_stage("sft", options, default_under(options.root, options.out, "ckpts", "sft"), metrics)
    trainer = build_trainer(stage, options)
    trainer.train(resume_from_checkpoint=str(stage.checkpoint) if stage.checkpoint else None)
    staging = trainer.write_aside()
    if is_main_rank():
        publish_model(stage, staging)
    finish_stage(stage, began, steps=trainer.state.global_step, best_metric=trainer.state.best_metric)
    return stage.out


def build_trainer(stage: Stage, options: SftOptions) -> StageTrainer:
    """Model, data and evaluation of the stage, put together."""
    tokenizer = load_tokenizer(options.model)
    config = load_config(options.model)
    require_vocabulary(config, tokenizer, options.model)
    require_positions(config, options.max_length, "--max_length")
    train, valid = train_and_valid(options, options.valid_limit)
    train_rows, train_long = encode_split(options, tokenizer, train)
    valid_rows, valid_long = encode_split(options, tokenizer, valid)
    stage.say(
        f"{len(train_rows)} training and {len(valid_rows)} validation posts; "
        f"{train_long} + {valid_long} too long for {options.max_length} tokens left out"
    )
    judged_on_training = train.same_rows_as(valid)
    if judged_on_training:
        stage.say(valid.warning("validation", "--valid_data FILE"))
    stage.note(
        train_posts=len(train_rows),
        valid_posts=len(valid_rows),
        posts_left_out=train_long + valid_long,
        valid_is_train=judged_on_training,
    )
    rouge = None
    if options.rouge_samples:
        rouge = GeneratedRouge(
            posts_to_summarize(options, tokenizer, valid),
            tokenizer,
            options.max_new_tokens,
            options.rouge_batch_size,
            stage.args.process_index,
            stage.args.world_size,
        )
    model, missing = load_model(AutoModelForCausalLM, options.model)
    require_whole(missing, options.model)
    objective = SummaryObjective(model.get_output_embeddings(), stage.args.world_size)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    stage.take_output(model)
    return StageTrainer(
        stage=stage,
        model=model,
        processing_class=tokenizer,
        train_dataset=train_rows,
        eval_dataset=valid_rows,
        data_collator=SummaryCollator(int(pad), options.loss_on_prompt),
        compute_loss_func=objective,  # tells the Trainer that the loss is divided by the whole step's tokens
        loss_fn=objective,
        measure=objective.measure,
        extra_eval=rouge,
    )


def encode_split(options: SftOptions, tokenizer: Any, chosen: Chosen) -> tuple[Rows, int]:
    """The posts of a split as token ids, from the cache where they are in it; and how many were too long."""
    skipped, form = Skipped(), get_task(options.task).form
    posts = divided(chosen.posts(skipped), form, tokenizer, skipped, max_length=options.max_length)
    answered = with_response(posts, choose_on_bad(options.bad_rows, skipped))
    rows, too_long = encode_posts(
        at_least_one(answered, lambda: f"{named(chosen.source, chosen.split)}: {skipped}"),
        form,
        tokenizer,
        options.max_length,
        cache=None if options.cache is None else Path(options.cache),
        made_from=chosen.facts,
        notes=lambda: {"skipped": str(skipped) if skipped.counts else ""},
    )
    say_skipped(chosen.source, chosen.split, cast(TokenStore, rows.items).notes["skipped"])
    return rows, too_long


def posts_to_summarize(options: SftOptions, tokenizer: Any, chosen: Chosen) -> list[Post]:
    """The first so many evaluation posts that leave room for a summary. Raises: UserError when none does."""
    posts = itertools.islice(chosen.posts(Skipped()), options.rouge_samples)
    # A post whose title alone is too long is left out, as it is in training.
    cut = cut_prompts(
        posts,
        get_task(options.task).form,
        tokenizer,
        options.max_length - options.max_new_tokens,
        response_tokens=options.max_new_tokens,
        bad_rows="skip",
    )
    if not cut:
        raise UserError(f"{chosen.source}: no evaluation post leaves room for a summary: raise --max_length")
    return cut


if __name__ == "__main__":
    run_main(main)
