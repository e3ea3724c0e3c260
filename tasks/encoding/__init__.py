"""Whole data sets as token ids: what `tasks.form` does to one sample, done to many at once on every core."""

from tasks.encoding.cutting import cut_prompts
from tasks.encoding.dividing import divided
from tasks.encoding.responses import at_least_one, require_responses, with_response
from tasks.encoding.samples import EncodedPosts, encode_posts

__all__ = [
    "EncodedPosts",
    "at_least_one",
    "cut_prompts",
    "divided",
    "encode_posts",
    "require_responses",
    "with_response",
]
