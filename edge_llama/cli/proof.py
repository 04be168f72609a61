"""What ``edge-llama convert`` checks of a file before it gets its name."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from edge_llama_convert import ConvertError

from ..errors import EdgeLlamaError
from ..reading import Reading
from . import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_llama_convert import Plan
    from edge_llama_convert.checks import Check, Report

_HINT = "Please report it with the model's name; meanwhile --verify off writes the file unchecked."


class Proof:
    """The checks of one conversion; errors name ``target``, not the temporary file.

    ``report`` is there once :meth:`of_file` has returned.
    """

    def __init__(self, work: Plan, target: Path, level: str) -> None:
        self._work, self._target, self._level = work, target, level
        self._tokens: Check | None = None
        self.report: Report | None = None

    def of_header(self, path: Path) -> None:
        """Check the tokenizer, which needs no weights; VerificationError when it differs."""
        from edge_llama_convert.checks import Level, Report, require
        from edge_llama_convert.verify import compare_tokens

        with self._named(path), Reading(path) as reading:
            self._tokens = compare_tokens(self._work, reading)
        report = Report(Level(self._level), (self._tokens,))
        require(report, self._target, hint=_HINT)

    def of_file(self, path: Path) -> None:
        """Check the rest, and store the report; VerificationError when something differs."""
        from edge_llama_convert.checks import require
        from edge_llama_convert.report import store_report

        with self._named(path):
            self.report = verify.compare(self._work, path, self._level, self._tokens)
        require(self.report, self._target, hint=_HINT)
        store_report(self._work, path, self.report)

    @contextlib.contextmanager
    def _named(self, path: Path) -> Iterator[None]:
        """Name in errors what the user will find; parts have their own names in a folder."""
        alone = path.parent == self._target.parent
        old, new = (path, self._target) if alone else (path.parent, self._target.parent)
        try:
            yield
        except (ConvertError, EdgeLlamaError) as error:
            message = str(error).replace(str(old), str(new))
            raise type(error)(message, hint=error.hint) from error
