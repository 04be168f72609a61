"""What a model is worth: perplexity, the distance between two models, and speed."""

from .bench import Bench, Spread, Workload, bench
from .perplexity import Comparison, Divergence, Perplexity, Progress, compare, perplexity
from .scores import Estimate

__all__ = [
    "Bench",
    "Comparison",
    "Divergence",
    "Estimate",
    "Perplexity",
    "Progress",
    "Spread",
    "Workload",
    "bench",
    "compare",
    "perplexity",
]
