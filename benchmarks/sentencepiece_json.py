"""Tokenise with Llama 2's vocabulary from a tokenizer.json, converted by us and by llama.cpp.

    python benchmarks/sentencepiece_json.py --tools BIN --llama-cpp SOURCE --python PY

The vocabulary and most texts are llama.cpp's own test files (models/ggml-vocab-llama-spm.gguf). The
truth is the ``tokenizers`` library. Exit code 1 when our conversion makes a mistake.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import gguf
from peers import LlamaCpp, add_peer_options

from edge_llama.config import ModelConfig
from edge_llama.native import NativeModel
from edge_llama_convert import convert, plan
from edge_llama_convert.vocab.pretokenizer import PROBE

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import builders
import spm


def main() -> int:
    """Count the texts that each conversion tokenises wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_peer_options(parser)
    options = parser.parse_args()
    file = options.llama_cpp / "models" / "ggml-vocab-llama-spm.gguf"
    fields = gguf.GGUFReader(file).fields
    tokens, scores = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores"))
    tokenizer = spm.fast_tokenizer(list(zip(tokens, scores, strict=True)))
    tests = Path(f"{file}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    texts = [*tests, *spm.STRINGS, PROBE]
    truth = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    with tempfile.TemporaryDirectory() as scratch:
        source, ours, theirs = (Path(scratch) / name for name in ("source", "ours", "theirs"))
        changes = {"vocab_size": len(tokens)}
        builders.build_tiny_checkpoint(source, changes=changes)
        for name in builders.tokenizer_files():
            (source / name).unlink()
        tokenizer.save(str(source / "tokenizer.json"))
        config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        builders.write_json(source / "tokenizer_config.json", config)
        convert(plan(source, recipe="bf16"), ours)
        LlamaCpp.from_options(options).to_16_bit(source, theirs)
        wrong = {}
        for label, path in (("edge-llama", ours), ("llama.cpp", theirs)):
            model = NativeModel(path, ModelConfig())
            read = [model.tokenize(text, add_special=False, parse_special=False) for text in texts]
            model.close()
            wrong[label] = sum(a != b for a, b in zip(read, truth, strict=True))
            print(f"converted by {label}: {wrong[label]} of {len(texts)} texts tokenised wrongly")
    return int(wrong["edge-llama"] > 0)


if __name__ == "__main__":
    sys.exit(main())
