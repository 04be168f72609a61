"""Which model of several is meant, by the names of their files; here or on a hub."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from .errors import ModelNotFoundError
from .header.split import model_name, part_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: The type in a file's name, as the makers of GGUFs write it: "...-Q4_K_M", "....UD-IQ2_XXS".
_LABEL = re.compile(
    r"(?:^|[-._])((?:UD-)?I?Q\d(?:_[0-9A-Z]+)*|TQ\d_\d|BF16|F16|F32|MXFP4(?:_MOE)?)(?=$|[-._])",
    re.IGNORECASE,
)

#: What is taken of several when nothing else is said: the usual choice between size and quality.
DEFAULT_LABEL = "Q4_K_M"

#: GGUFs that are no text models: image encoders and importance matrices.
_OTHERS = ("mmproj", "imatrix")


def label(name: str) -> str | None:
    """Return the type that a model's name says it has, in capitals; None if it says none."""
    found = _LABEL.findall(name.rpartition("/")[2])
    return found[-1].upper() if found else None


def group(files: Iterable[str]) -> dict[str, list[str]]:
    """Return the files of each model by its name, in the order of its parts.

    GGUFs that are no text models are left out, and what is no GGUF. Folders stay part of the
    names. Parts may be missing, see :func:`is_whole`, but not the first.
    """
    found: dict[str, dict[int, str]] = {}
    for path in files:
        folder, slash, file = path.rpartition("/")
        if file.lower().endswith(".gguf") and not any(word in file.lower() for word in _OTHERS):
            name = f"{folder}{slash}{model_name(file)}"
            found.setdefault(name, {})[part_number(file)[0]] = path
    return {
        name: [parts[number] for number in sorted(parts)]
        for name, parts in sorted(found.items())
        if 1 in parts
    }


def is_whole(files: Sequence[str]) -> bool:
    """Whether all parts of a model are among its files."""
    return len(files) == part_number(files[0].rpartition("/")[2])[1]


def unique_labels(names: Iterable[str]) -> dict[str, str]:
    """Return by what each of several models is told from the others: its type, or its name."""
    found = {name: label(name) or name for name in names}
    counts = Counter(found.values())
    return {name: text if counts[text] == 1 else name for name, text in found.items()}


def pick(
    models: Mapping[str, Sequence[str]], wanted: str | None, *, where: str, shown: str
) -> Sequence[str]:
    """Return the files of the one model that is meant.

    ``wanted`` is a type, a file's name with or without ``.gguf``, or a part of a name that only
    one has; None takes the only one, or the only :data:`DEFAULT_LABEL`. ``where`` is where they
    are, for the error, and ``shown`` what the choices are.

    Raises:
        ModelNotFoundError: none of them, or more than one, is meant; the hint has the choices.
    """
    fitting = _fitting(models, wanted)
    if len(fitting) == 1:
        return models[fitting[0]]
    what = f"{len(fitting)} models" if fitting else "no model"
    problem = f"{what} called {wanted}" if wanted else f"{len(fitting)} models, not one"
    raise ModelNotFoundError(
        f"{where}: {problem}", hint=f"Name one of them, as {where}:TYPE. There is: {shown}"
    )


def _fitting(models: Mapping[str, Sequence[str]], wanted: str | None) -> list[str]:
    if wanted is None:
        usual = [name for name in models if label(name) == DEFAULT_LABEL]
        return usual if len(usual) == 1 else list(models)
    text = wanted.lower().removesuffix(".gguf")
    steps: tuple[Callable[[str], bool], ...] = (
        lambda name: text in {name.lower(), name.rpartition("/")[2].lower()},
        lambda name: (label(name) or "").lower() in {text, text.replace("-", "_")},
        lambda name: text in name.lower(),
    )
    for fits in steps:
        found = [name for name in models if fits(name)]
        if found:
            return found
    return []
