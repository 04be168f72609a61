"""Memory: what a model needs, from its header alone; a plan that fits; and what it took.

Nothing here knows of llama.cpp or asks the machine: hardware comes in as a value.
"""

from .facts import ModelFacts, Weights, read_facts
from .formula import Shape, grammar_bytes, kv_cache_bytes
from .needs import estimate
from .plan import MemoryPlan, plan_memory
from .receipt import Buffer, MemoryReceipt, write_receipt
from .search import Demand, comfortable
from .use import MemoryUse

__all__ = [
    "Buffer",
    "Demand",
    "MemoryPlan",
    "MemoryReceipt",
    "MemoryUse",
    "ModelFacts",
    "Shape",
    "Weights",
    "comfortable",
    "estimate",
    "grammar_bytes",
    "kv_cache_bytes",
    "plan_memory",
    "read_facts",
    "write_receipt",
]
