"""The SQLite file: opened with the right pragmas, migrated, and every fault of it an error of ours.

Write-ahead logging lets one process write while others read; ``secure_delete`` overwrites what is
deleted. Each commit is on the disk (``synchronous=FULL``): small machines lose power often.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from ..errors import HistoryError
from .schema import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Seconds to wait for another process that is writing.
_BUSY_SECONDS = 5.0
_PRAGMAS = ("foreign_keys = ON", "secure_delete = ON", "journal_mode = WAL", "synchronous = FULL")


def connect(path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> sqlite3.Connection:
    """Open the file, or make it, and bring its tables up to date.

    Raises:
        HistoryError: it cannot be opened, is damaged, of a newer version, or no file of ours.
    """
    with faults(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Nobody else may read it, nor what SQLite puts beside it with the same permissions.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            _migrate(connection, path, migrations)
        except BaseException:
            connection.close()
            raise
        return connection


@contextlib.contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the system into a HistoryError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise HistoryError(f"{path}: {error}", hint=_remedy(path, error)) from error
    except OSError as error:
        raise HistoryError(
            f"{path}: {error.strerror or error}",
            hint="Check the folder and its permissions, or set EDGE_LLAMA_HOME to another one.",
        ) from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all or nothing; other processes' writes wait."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _migrate(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]]
) -> None:
    if _version(connection) == len(migrations) and _application(connection) == APPLICATION_ID:
        return
    with transaction(connection):  # another process may have been faster: look again
        version = _version(connection)
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and _application(connection) != APPLICATION_ID:
            raise HistoryError(
                f"{path}: it is the database of another program",
                hint="Rename it, or set EDGE_LLAMA_HOME to another folder.",
            )
        if version > len(migrations):
            raise HistoryError(
                f"{path}: a newer edge-llama wrote it (version {version}, this one knows "
                f"{len(migrations)})",
                hint="Update edge-llama, or set EDGE_LLAMA_HOME to another folder.",
            )
        for step in migrations[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _application(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def _remedy(path: Path, error: sqlite3.Error) -> str:
    text = str(error)
    if "locked" in text or "busy" in text:
        return "Another process is writing it; try again, or end that process."
    if "full" in text:
        return "Make room on the disk."
    if "malformed" in text or "not a database" in text:
        return (
            f"Rename it, e.g. to {path.name}.damaged, to begin anew; "
            f"sqlite3 {path.name}.damaged .recover shows what can be saved."
        )
    return "Check the folder and its permissions, or set EDGE_LLAMA_HOME to another one."
