"""All conversations of a user."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..closing import Closing
from ..errors import HistoryError
from ..folders import data_folder
from .database import connect, faults, transaction
from .index import Index, has_fts5
from .records import Conversation, Hit, Turn, make_title

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from .records import Status

#: The file in the user's data folder.
FILE_NAME = "conversations.db"
#: Nobody types more at a time.
_TYPED_CHARS = 10_000
_SELECT = (
    "SELECT conversation.*, (SELECT count(*) FROM turn WHERE conversation = conversation.id) "
    "AS turns FROM conversation "
)


class ConversationStore(Closing):
    """Conversations in one SQLite file. For one thread; other processes may use the file too.

    Every method raises HistoryError when the file is damaged, locked for long or cannot be written.
    """

    def __init__(self, path: Path, *, full_text: bool | None = None) -> None:
        """Open or make the file; without ``full_text``, FTS5 is used if it is there."""
        self.path = path
        self._connection = connect(path)
        try:
            with faults(path):
                fts5 = has_fts5(self._connection) if full_text is None else full_text
                self._index = Index(self._connection, full_text=fts5)
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def open(cls) -> ConversationStore:
        """Open the user's own; see :mod:`edge_llama.folders`."""
        return cls(data_folder() / FILE_NAME)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def list(self, limit: int | None = None) -> list[Conversation]:
        """Return the conversations, the one used last first."""
        sql = _SELECT + "ORDER BY updated DESC, id DESC LIMIT ?"
        return [_conversation(row) for row in self._rows(sql, -1 if limit is None else limit)]

    def get(self, number: int) -> Conversation:
        """Return the conversation of that id; HistoryError if there is none."""
        for row in self._rows(_SELECT + "WHERE id = ?", number):
            return _conversation(row)
        raise HistoryError(f"there is no conversation {number}", hint=_HINT)

    def find(self, name: str) -> Conversation:
        """Return the conversation that is meant: "last", an id, or a title; else HistoryError."""
        if name == "last":
            for conversation in self.list(limit=1):
                return conversation
            raise HistoryError(
                f"{self.path}: there is no conversation yet", hint="Begin one: edge-llama chat"
            )
        if name.isascii() and name.isdecimal() and len(name) < 19:
            return self.get(int(name))
        for conversation in self.list():
            if conversation.title.casefold() == name.casefold():
                return conversation
        raise HistoryError(f"there is no conversation called {name!r}", hint=_HINT)

    def turns(self, number: int) -> tuple[Turn, ...]:
        """Return the turns of a conversation, in order."""
        rows = self._rows("SELECT * FROM turn WHERE conversation = ? ORDER BY id", number)
        return tuple(_turn(row) for row in rows)

    def questions(self, limit: int) -> Sequence[str]:
        """Return what was asked last in any conversation, newest first; without whole files."""
        sql = "SELECT question FROM turn WHERE length(question) <= ? ORDER BY id DESC LIMIT ?"
        return [row["question"] for row in self._rows(sql, _TYPED_CHARS, limit)]

    def search(self, words: str, limit: int = 20) -> Sequence[Hit]:
        """Return the conversations with a turn that has all ``words``, the best first."""
        with faults(self.path):
            finds = self._index.search(words)
        best: dict[int, str] = {}
        for find in finds:
            best.setdefault(find.conversation, " ".join(find.excerpt.split()))
        return [
            Hit(conversation=self.get(number), excerpt=excerpt)
            for number, excerpt in list(best.items())[:limit]
        ]

    def rename(self, number: int, title: str) -> None:
        """Give a conversation a name."""
        self._write("UPDATE conversation SET title = ? WHERE id = ?", make_title(title), number)

    def update(
        self, number: int, *, model: str, system: str | None, settings: Mapping[str, Any]
    ) -> None:
        """Keep what belongs to a conversation beside its turns."""
        self._write(
            "UPDATE conversation SET model = ?, system = ?, settings = ? WHERE id = ?",
            *(model, system, json.dumps(settings), number),
        )

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete conversations: rows and index are overwritten, and the file shrinks."""
        with faults(self.path):
            with transaction(self._connection):
                for number in numbers:
                    self._connection.execute("DELETE FROM conversation WHERE id = ?", (number,))
                self._index.rebuild()
            self._connection.execute("VACUUM")
            # The log still holds pages as they were.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # What a thread does

    def begin(self, *, title: str, model: str, system: str | None, settings: Any) -> int:
        """Make a conversation and return its id."""
        now = time.time()
        return self._write(
            "INSERT INTO conversation (title, model, system, settings, created, updated) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *(make_title(title), model, system, json.dumps(settings), now, now),
        )

    def ask(self, number: int, question: str, *, after: int | None) -> Turn | None:
        """Add a question to a conversation whose last turn is ``after``.

        Returns None if it is not: another process has added a turn, or deleted it.
        """
        now = time.time()
        with faults(self.path), transaction(self._connection):
            row = self._connection.execute(
                "SELECT (SELECT max(id) FROM turn WHERE conversation = ?) AS last, "
                "EXISTS (SELECT 1 FROM conversation WHERE id = ?) AS there",
                (number, number),
            ).fetchone()
            if not row["there"] or row["last"] != after:
                return None
            turn = self._connection.execute(
                "INSERT INTO turn (conversation, question, asked) VALUES (?, ?, ?)",
                (number, question, now),
            ).lastrowid
            sql = "UPDATE conversation SET updated = ? WHERE id = ?"
            self._connection.execute(sql, (now, number))
            for added in self._connection.execute("SELECT * FROM turn WHERE id = ?", (turn,)):
                return _turn(added)
        raise AssertionError("the row was just added")

    def copy(self, turns: Sequence[Turn], into: int) -> Sequence[Turn]:
        """Add copies of ``turns`` to a conversation."""
        with faults(self.path), transaction(self._connection):
            for turn in turns:
                self._connection.execute(
                    "INSERT INTO turn (conversation, question, answer, status, asked) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (into, turn.question, turn.answer, turn.status, turn.asked.timestamp()),
                )
        return self.turns(into)

    def answer(self, turn: int, answer: str, status: Status) -> None:
        """Keep what there is of an answer."""
        self._write("UPDATE turn SET answer = ?, status = ? WHERE id = ?", answer, status, turn)

    def remove_turn(self, turn: int) -> None:
        """Take a turn out."""
        self._write("DELETE FROM turn WHERE id = ?", turn)

    def _rows(self, sql: str, *values: object) -> Iterator[sqlite3.Row]:
        with faults(self.path):
            yield from self._connection.execute(sql, values).fetchall()

    def _write(self, sql: str, *values: object) -> int:
        with faults(self.path):
            return self._connection.execute(sql, values).lastrowid or 0


_HINT = "List them with: edge-llama history"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=timezone.utc)


def _conversation(row: sqlite3.Row) -> Conversation:
    times = {name: _time(row[name]) for name in ("created", "updated")}
    settings = json.loads(row["settings"])
    return Conversation(**{**dict(row), **times, "settings": settings})


def _turn(row: sqlite3.Row) -> Turn:
    values = {name: row[name] for name in ("id", "question", "answer", "status")}
    return Turn(**values, asked=_time(row["asked"]))
