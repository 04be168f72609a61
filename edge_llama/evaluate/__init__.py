"""What a model is worth: perplexity, the distance between two models, and speed."""

from .perplexity import Comparison, Divergence, Perplexity, Progress, compare, perplexity
from .scores import Estimate

__all__ = [
    "Comparison",
    "Divergence",
    "Estimate",
    "Perplexity",
    "Progress",
    "compare",
    "perplexity",
]
