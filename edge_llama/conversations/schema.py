"""The tables, as a list of steps: ``PRAGMA user_version`` counts how many a file has had."""

from __future__ import annotations

#: Tells our files from other programs' SQLite files: "ELCH".
APPLICATION_ID = 0x454C4348

#: Each step is a list of statements; a step that was published is never changed.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE conversation (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            title TEXT NOT NULL,
            model TEXT NOT NULL,
            system TEXT,
            settings TEXT NOT NULL DEFAULT '{}',
            created REAL NOT NULL,
            updated REAL NOT NULL
        )""",
        """CREATE TABLE turn (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
            question TEXT NOT NULL,
            answer TEXT NOT NULL DEFAULT '',
            status TEXT NOT NULL DEFAULT 'unfinished'
                CHECK (status IN ('complete', 'stopped', 'unfinished')),
            asked REAL NOT NULL
        )""",
        "CREATE INDEX turn_by_conversation ON turn (conversation, id)",
        "CREATE INDEX conversation_by_time ON conversation (updated)",
    ),
)
