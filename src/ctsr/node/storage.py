"""What a queue stands on: its database, the lock that holds it, and files that survive a power cut."""

import os
import shutil
import sqlite3
from pathlib import Path

from ctsr.errors import UsageError

FORMAT = 1
"""Of the database."""
BUSY_S = 20.0
"""How long a change waits for another process, such as `ctsr node --retry`."""

SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, study_uid TEXT NOT NULL, caller TEXT NOT NULL,
    state TEXT NOT NULL, received REAL NOT NULL, changed REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', result TEXT NOT NULL DEFAULT '');
CREATE INDEX jobs_by_state ON jobs (state, due);
CREATE INDEX jobs_by_study ON jobs (study_uid, caller);
CREATE TABLE instances (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, sop_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (job, sop_uid));
CREATE INDEX instances_by_uid ON instances (sop_uid);
CREATE TABLE sent (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, sop_uid TEXT NOT NULL, PRIMARY KEY (job, sop_uid));
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database of a queue, and create it where it is missing.

    Raises:
        UsageError: another version of ctsr wrote it.
    """
    # Autocommit: transactions are begun and ended by `Queue._transaction`.
    database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == 0:
        database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
    elif version != FORMAT:
        raise UsageError(f"{path}: written by another version of ctsr; choose another `queue`")
    return database


def hold_lock(path: Path) -> sqlite3.Connection:
    """Hold a queue for this process, as long as the connection is open.

    Raises:
        UsageError: another process holds it.
    """
    database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        raise UsageError(f"{path.parent}: another node is using this queue; choose another `queue`") from error
    return database


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folders(*folders: Path) -> None:
    """Make names in these folders survive a power cut; Windows does so by itself."""
    if os.name == "nt":
        return
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it on a file system without links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
