"""Full-text search over questions and answers, with SQLite's FTS5 where this Python has it.

The index (``turn_text``, without a copy of the text) is kept up by triggers. That the triggers
are there means that it is up to date: a Python without FTS5 drops them when it opens the file, and
the next one that has it builds the index anew.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from .database import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLE = """CREATE VIRTUAL TABLE turn_text USING fts5(
    question, answer, content='turn', content_rowid='id',
    tokenize='unicode61 remove_diacritics 2'
)"""
_ADD = "INSERT INTO turn_text (rowid, question, answer) VALUES (new.id, new.question, new.answer);"
_TAKE = (
    "INSERT INTO turn_text (turn_text, rowid, question, answer) "
    "VALUES ('delete', old.id, old.question, old.answer);"
)
_TRIGGERS = {
    "turn_added": f"AFTER INSERT ON turn BEGIN {_ADD} END",
    "turn_removed": f"AFTER DELETE ON turn BEGIN {_TAKE} END",
    "turn_changed": f"AFTER UPDATE OF question, answer ON turn BEGIN {_TAKE} {_ADD} END",
}
#: Words around a find.
_EXCERPT_WORDS = 12
_EXCERPT_CHARS = 80


class Find(NamedTuple):
    """A turn that a search found, and the text around the find."""

    turn: int
    conversation: int
    excerpt: str


def has_fts5(connection: sqlite3.Connection) -> bool:
    """Whether this SQLite has full-text search."""
    try:
        connection.execute("CREATE VIRTUAL TABLE temp.probe USING fts5(text)")
    except sqlite3.OperationalError:
        return False
    connection.execute("DROP TABLE temp.probe")
    return True


class Index:
    """The index of one connection; ``full_text`` is whether it uses FTS5."""

    def __init__(self, connection: sqlite3.Connection, *, full_text: bool) -> None:
        self._connection, self._full_text = connection, full_text
        if full_text != self._is_kept():
            with transaction(connection):
                if full_text:
                    self._build()
                else:
                    self._abandon()

    def _is_kept(self) -> bool:
        sql = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'turn_%'"
        return bool(self._connection.execute(sql).fetchone()[0] == len(_TRIGGERS))

    def _build(self) -> None:
        if self._is_kept():
            return
        self._connection.execute("DROP TABLE IF EXISTS turn_text")
        self._connection.execute(_TABLE)
        for name, body in _TRIGGERS.items():
            self._connection.execute(f"CREATE TRIGGER IF NOT EXISTS {name} {body}")
        self.rebuild()

    def _abandon(self) -> None:
        for name in _TRIGGERS:
            self._connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        tables = "SELECT name FROM sqlite_master WHERE name = 'turn_text_data'"
        if self._connection.execute(tables).fetchone():
            # The words of the turns; without rows 1 and 10 it could not even be dropped.
            self._connection.execute("DELETE FROM turn_text_data WHERE id > 10")

    def rebuild(self) -> None:
        """Write the index anew, so that nothing is left in it of what was deleted."""
        if self._full_text:
            self._connection.execute("INSERT INTO turn_text (turn_text) VALUES ('rebuild')")

    def search(self, words: str) -> list[Find]:
        """Return the turns that have all ``words``, the best first; the last may be a beginning.

        Where no word begins like that, any text that contains them counts: languages without
        spaces, parts of words, titles.
        """
        terms = words.split()
        if not terms:
            return []
        return list(self._matches(terms)) or list(self._contains(terms))

    def _matches(self, terms: list[str]) -> Iterator[Find]:
        if not self._full_text:
            return
        quoted = " ".join('"' + term.replace('"', '""') + '"' for term in terms)
        yield from (
            Find(*row)
            for row in self._connection.execute(
                "SELECT turn.id, turn.conversation, snippet(turn_text, -1, '', '', '…', ?) "
                "FROM turn_text JOIN turn ON turn.id = turn_text.rowid "
                "WHERE turn_text MATCH ? ORDER BY rank",
                (_EXCERPT_WORDS, f"{quoted} *"),
            )
        )

    def _contains(self, terms: list[str]) -> Iterator[Find]:
        text = "(conversation.title || char(10) || question || char(10) || answer)"
        patterns = ["%" + re.sub(r"([\\%_])", r"\\\1", term) + "%" for term in terms]
        condition = " AND ".join(rf"{text} LIKE ? ESCAPE '\'" for _ in terms)
        for turn, conversation, found in self._connection.execute(
            f"SELECT turn.id, conversation, {text} FROM turn "  # noqa: S608 - constants
            f"JOIN conversation ON conversation.id = turn.conversation WHERE {condition} "
            "ORDER BY turn.id DESC",
            patterns,
        ):
            yield Find(turn, conversation, _around(found, terms[0]))


def _around(text: str, term: str) -> str:
    """Return what stands around the first ``term`` in ``text``."""
    place = max(0, text.lower().find(term.lower()))
    start, end = max(0, place - _EXCERPT_CHARS // 2), place + _EXCERPT_CHARS // 2
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
