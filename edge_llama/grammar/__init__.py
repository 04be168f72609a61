"""Constrained decoding: a Grammar, compiled per vocabulary, and a matcher per generation."""

from .compiled import CompiledGrammar, compile_grammar
from .grammar import Grammar
from .matcher import Matcher
from .schema.options import JsonOptions
from .vocabulary import Vocabulary

__all__ = ["CompiledGrammar", "Grammar", "JsonOptions", "Matcher", "Vocabulary", "compile_grammar"]
