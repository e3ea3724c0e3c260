"""ROUGE as an `evaluate` metric that needs no hub: a thin cover over the rouge-score package.

Loaded by path, `evaluate.load("evaluation/rouge")`; `evaluation.rouge_scores` is the way in for other code. The library
copies this one file into its own cache before importing it, so it imports nothing of this repository.
Left out: the bootstrap aggregator (its "mid" is the median of resampled means; intervals are made in
`evaluation.statistics`), several references a prediction, rougeLsum.
"""

import datasets
import evaluate
from rouge_score import rouge_scorer

_DESCRIPTION = "F1 overlap of unigrams, bigrams and the longest common subsequence (Lin 2004), one value a sample."
_CITATION = "Chin-Yew Lin. ROUGE: A Package for Automatic Evaluation of Summaries. ACL 2004 workshop, W04-1013."
_INPUTS = """
Args:
    predictions, references: lists of strings of equal length.
    rouge_types: names that rouge-score knows.
    use_stemmer: strip word endings before comparing (Porter).
    use_aggregator: True for one mean a type; False for one value a sample.
Returns: {type: F1 values in [0, 1], or their mean}.
"""


class Rouge(evaluate.Metric):
    """`compute(predictions=[...], references=[...], use_aggregator=False, use_stemmer=False)`."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        rouge_types: tuple[str, ...] = ("rouge1", "rouge2", "rougeL"),
        use_stemmer: bool = False,
        use_aggregator: bool = False,
    ) -> dict[str, list[float]] | dict[str, float]:
        scorer = rouge_scorer.RougeScorer(list(rouge_types), use_stemmer=use_stemmer)
        rows = [
            scorer.score(reference, prediction) for prediction, reference in zip(predictions, references, strict=True)
        ]
        columns = {name: [float(row[name].fmeasure) for row in rows] for name in rouge_types}
        if not use_aggregator:
            return columns
        return {name: sum(values) / len(values) for name, values in columns.items()}
