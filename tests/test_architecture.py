"""The house rules that no linter knows: import direction, one importer, one printer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import edge_llama
import edge_llama_convert

RUNTIME = Path(edge_llama.__file__).parent
CONVERTER = Path(edge_llama_convert.__file__).parent

# Imports run from right to left only; modules of one group may not import each other unless the
# one imported stands in an earlier group.
LAYERS = [
    ["errors", "closing", "cuts", "textfile"],
    ["forks", "gate", "templatecosts", "waiting"],
    ["sandbox"],
    ["folders", "hardware", "install", "units"],
    ["rules"],
    ["config", "device", "decoder", "grammar", "guide", "sampling", "messages", "header"],
    ["ggufnames"],
    ["ask", "catalog", "conversations", "personas"],
    ["preflight"],
    ["gguf_file"],
    ["filetypes", "rope"],
    ["memory"],
    ["readahead", "native"],
    [
        *("cache", "detokenize", "loading", "logprobs", "reading", "stops", "template"),
        "tokenmemory",
    ],
    ["states", "overflow", "prompt"],
    ["opening"],
    ["generate", "prompting"],
    ["delivery"],
    ["scheduler", "stream"],
    ["asyncstream", "engine", "runtime"],
    ["chat", "local"],
    ["worker"],
    ["model", "evaluate", "doctor"],
    ["_pyinstaller", "cli"],
]
COMMANDS = {"convert.py", "doctor.py", "progress.py", "proof.py", "pull.py", "verify.py"}
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def sources(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def imported(path: Path, root: Path, package: str) -> set[str]:
    """Absolute names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    parents = [package, *path.relative_to(root).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parents[: len(parents) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def test_every_module_has_a_place() -> None:
    modules = {path.relative_to(RUNTIME).parts[0].removesuffix(".py") for path in sources(RUNTIME)}
    assert modules - {"__init__", "__main__"} == RANK.keys()


@pytest.mark.parametrize("path", sources(RUNTIME), ids=lambda path: path.stem)
def test_imports_run_one_way(path: Path) -> None:
    own = path.relative_to(RUNTIME).parts[0].removesuffix(".py")
    if own in {"__init__", "__main__"}:
        return
    for name in imported(path, RUNTIME, "edge_llama"):
        parts = name.split(".")
        if parts[0] == "edge_llama" and len(parts) > 1 and parts[1] in RANK and parts[1] != own:
            assert RANK[parts[1]] < RANK[own], f"{own} imports {parts[1]}"


def test_only_native_imports_llama_cpp() -> None:
    for root, package in ((RUNTIME, "edge_llama"), (CONVERTER, "edge_llama_convert")):
        for path in sources(root):
            uses = any(name.split(".")[0] == "llama_cpp" for name in imported(path, root, package))
            assert not uses or path.parent.name == "native", path


def test_the_converter_knows_nothing_of_the_runtime() -> None:
    for path in sources(CONVERTER):
        for name in imported(path, CONVERTER, "edge_llama_convert"):
            assert name.split(".")[0] != "edge_llama", path


def test_only_its_commands_import_the_converter() -> None:
    for path in sources(RUNTIME):
        for name in imported(path, RUNTIME, "edge_llama"):
            assert name.split(".")[0] != "edge_llama_convert" or path.name in COMMANDS, path


@pytest.mark.parametrize(
    "path", [*sources(RUNTIME), *sources(CONVERTER)], ids=lambda path: path.name
)
def test_files_are_small_and_only_the_console_prints(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    if path.name != "console.py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path}:{node.lineno}"


def test_the_public_names() -> None:
    assert sorted(edge_llama.__all__) == [
        "AsyncStream",
        "BackendError",
        "Chat",
        "ContextOverflowError",
        "DeviceError",
        "EdgeLlamaError",
        "GGUFInfo",
        "Grammar",
        "GrammarError",
        "HistoryError",
        "IncompleteError",
        "InvalidOptionError",
        "InvalidOutputError",
        "LoadCancelledError",
        "MemoryPlan",
        "MemoryReceipt",
        "Message",
        "Model",
        "ModelConfig",
        "ModelFileError",
        "ModelNotFoundError",
        "NativeLibraryError",
        "OutOfMemoryError",
        "Reply",
        "Sampling",
        "StateError",
        "Stream",
        "TemplateError",
        "TokenLogprob",
        "WorkerDied",
        "__version__",
        "find_model",
        "inspect",
    ]
    for name in edge_llama.__all__:
        assert getattr(edge_llama, name) is not None
    with pytest.raises(AttributeError):
        _ = edge_llama.nothing


def test_every_error_carries_a_hint() -> None:
    from edge_llama import errors
    from edge_llama_convert import errors as convert_errors

    for module, base in ((errors, "EdgeLlamaError"), (convert_errors, "ConvertError")):
        tree = module.__doc__ or ""
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, Exception):
                assert issubclass(value, getattr(module, base))
                assert name in tree, f"{name} is not drawn in the docstring"


def test_the_version_is_the_package_s() -> None:
    import importlib.metadata

    assert importlib.metadata.version("edge-llama") == edge_llama.__version__
