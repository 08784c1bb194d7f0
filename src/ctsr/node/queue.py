"""The queue on disk: what was received, what is to be done with it, and what was delivered.

Files lie in ``<folder>/jobs/<id>/originals``; their state is in an SQLite database beside them. An
image is a file, flushed to the disk, and a row, committed, before it is acknowledged, so a killed
process or a power cut loses nothing that was.
"""

import hashlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ctsr.errors import CtsrError, MissingInputError
from ctsr.hashing import digest
from ctsr.node import hold_lock, link_or_copy, open_database, sync_folders, write_durably
from ctsr.paths import PRIVATE_MODE

DATABASE = "queue.sqlite"
LOCK = "lock.sqlite"
FIRST_DELAY_S, MAX_DELAY_S = 30.0, 900.0
"""Seconds before a study is begun again in whose upscaling the node ended twice; doubles each time, up to a limit."""


class JobState(StrEnum):
    """Where a study stands."""

    RECEIVING = "receiving"
    """More images may come."""
    WAITING = "waiting"
    """Complete, to be upscaled."""
    UPSCALING = "upscaling"
    SENDING = "sending"
    """Upscaled, to be delivered."""
    SENT = "sent"
    FAILED = "failed"
    """Stays until it is tried again or dropped."""


@dataclass(frozen=True)
class Instance:
    """An image as it came."""

    study_uid: str
    series_uid: str
    sop_uid: str
    caller: str
    """AE title of who sent it."""


@dataclass(frozen=True)
class Receipt:
    """What became of a received image."""

    job_id: int
    is_known: bool
    """The same bytes were received before: nothing is done twice."""
    has_replaced: bool = False
    """It took the place of another image with its UID."""


@dataclass(frozen=True)
class StudyJob:
    """A study, or what came late of one."""

    id: int
    folder: Path
    study_uid: str
    caller: str
    state: JobState
    received: float
    """When its last image came, seconds since 1970."""
    attempts: int
    """How often the present state was tried and not left."""
    due: float
    """When it is tried next, seconds since 1970."""
    reason: str
    """Why it failed or waits."""
    result: str
    """Name of the folder of results, in `folder`."""
    num_images: int
    num_sent: int

    @property
    def originals(self) -> Path:
        """The folder of the images as they came."""
        return self.folder / "originals"


class Queue:
    """The queue of one node; all methods may be called from any thread.

    Args:
        folder: created where it is missing.
        exclusive: keep other nodes away for as long as this process lives.
        now: clock, seconds since 1970.

    Raises:
        UsageError: another node works on it, or a later version of ctsr wrote it.
    """

    def __init__(self, folder: Path, *, exclusive: bool = True, now: Callable[[], float] = time.time) -> None:
        self.folder = folder.absolute()
        self._now = now
        self._opened = now()
        self._cut_off: dict[int, float] = {}
        self._lock = threading.RLock()
        if not exclusive and not (folder / DATABASE).is_file():
            raise MissingInputError(f"{folder}: holds no queue of a node")
        self._jobs = self.folder / "jobs"
        self._incoming = self.folder / "incoming"
        # Whole exams of patients: for the node's user alone. A folder that is there already keeps its permissions.
        self.folder.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
        for path in (self._jobs, self._incoming):
            path.mkdir(exist_ok=True)
        # The lock is a transaction that never ends: the system lifts it however the process does.
        self._held = hold_lock(self.folder / LOCK) if exclusive else None
        self._database = open_database(self.folder / DATABASE)
        if exclusive:
            self._recover()

    def close(self) -> None:
        """Let go of the queue; everything is on the disk already."""
        with self._lock:
            self._database.close()
            if self._held is not None:
                self._held.close()

    def receive(self, instance: Instance, content: bytes) -> Receipt:
        """Keep an image for good; it is on the disk when this returns.

        It joins the open job of its study, or one that waits and was not begun, or starts another.

        Raises:
            OSError, sqlite3.Error: it could not be kept, and is not.
        """
        fingerprint = hashlib.sha256(content).digest()
        with self._lock:
            known = self._known(instance, fingerprint)
            if known is not None:
                return Receipt(known, is_known=True)
        name = _file_name(instance.sop_uid, fingerprint)
        part = self._incoming / f"{threading.get_ident()}-{name}"
        try:
            write_durably(part, content)
            with self._lock:
                job_id, replaced = self._add(instance, fingerprint, part, name)
        finally:
            part.unlink(missing_ok=True)
        originals = self._folder(job_id) / "originals"
        if replaced is not None:
            (originals / replaced).unlink(missing_ok=True)
        # Outside the lock, where callers wait for the disk together; it takes longer than all the rest.
        sync_folders(originals, originals.parent, self._jobs)
        return Receipt(job_id, is_known=False, has_replaced=replaced is not None)

    def _add(self, instance: Instance, fingerprint: bytes, part: Path, name: str) -> tuple[int, str | None]:
        """Put a written file into its job; returns the job and the name of a file that it takes the place of."""
        target: Path | None = None
        try:
            with self._transaction() as database:
                job_id = self._open_job(database, instance)
                old = database.execute(
                    "SELECT content FROM instances WHERE job = ? AND sop_uid = ?",
                    (job_id, instance.sop_uid),
                ).fetchone()
                database.execute(
                    "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?)",
                    (job_id, instance.sop_uid, instance.series_uid, fingerprint),
                )
                target = self._folder(job_id) / "originals" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                part.replace(target)
        except BaseException:  # the database forgets the image, whatever happened: so must the folder
            if target is not None:
                target.unlink(missing_ok=True)
            raise
        replaced = None if old is None else _file_name(instance.sop_uid, old[0])
        return job_id, None if replaced == name else replaced

    def _known(self, instance: Instance, fingerprint: bytes) -> int | None:
        row = self._database.execute(
            "SELECT job FROM instances JOIN jobs ON jobs.id = job "
            "WHERE sop_uid = ? AND caller = ? AND content = ? AND state != ?",
            (instance.sop_uid, instance.caller, fingerprint, JobState.FAILED),
        ).fetchone()
        return None if row is None else int(row[0])

    def _open_job(self, database: sqlite3.Connection, instance: Instance) -> int:
        now = self._now()
        row = database.execute(
            "SELECT id FROM jobs WHERE study_uid = ? AND caller = ? "
            "AND (state = ? OR (state = ? AND attempts = 0)) ORDER BY id DESC",
            (instance.study_uid, instance.caller, JobState.RECEIVING, JobState.WAITING),
        ).fetchone()
        if row is not None:
            database.execute(
                "UPDATE jobs SET state = ?, received = ?, changed = ? WHERE id = ?",
                (JobState.RECEIVING, now, now, row[0]),
            )
            return int(row[0])
        cursor = database.execute(
            "INSERT INTO jobs (study_uid, caller, state, received, changed) VALUES (?, ?, ?, ?, ?)",
            (instance.study_uid, instance.caller, JobState.RECEIVING, now, now),
        )
        assert cursor.lastrowid is not None, "a row was inserted"
        return cursor.lastrowid

    def close_quiet(
        self,
        quiet_s: float,
        held: Collection[int],
        expected: Collection[tuple[str, str]] = (),
        *,
        patience_s: float = 0.0,
    ) -> list[StudyJob]:
        """Complete the jobs that nothing came for lately.

        Args:
            quiet_s: seconds without an image.
            held: jobs with an open association.
            expected: UID and caller of studies of which more is known to come.
            patience_s: seconds that a study waits for its rest which was being received when an earlier node ended.
        """
        closed: list[StudyJob] = []
        with self._lock:
            for job in self.jobs(JobState.RECEIVING):
                if job.id in held or (job.study_uid, job.caller) in expected:
                    continue
                is_cut_off = self._cut_off.get(job.id) == job.received
                since, wait_s = (self._opened, patience_s) if is_cut_off else (job.received, quiet_s)
                # `abs`: a clock that was set back must not keep a study open for ever.
                if abs(self._now() - since) >= wait_s:
                    with self._transaction() as database:
                        self._join_earlier(database, job)
                        self._set(database, job, JobState.WAITING)
                    closed.append(self.job(job.id))
        return closed

    def _join_earlier(self, database: sqlite3.Connection, job: StudyJob) -> None:
        """Put slices that were received earlier beside late ones of their series.

        A series is tuned and numbered as a whole. Results of both jobs have UIDs of their own: their
        pixels differ.
        """
        rows = database.execute(
            "SELECT job, sop_uid, series_uid, content FROM instances JOIN jobs ON jobs.id = job "
            "WHERE study_uid = ? AND caller = ? AND job < ? AND series_uid IN "
            "(SELECT series_uid FROM instances WHERE job = ?) AND sop_uid NOT IN "
            "(SELECT sop_uid FROM instances WHERE job = ?) ORDER BY job",  # those are corrected
            (job.study_uid, job.caller, job.id, job.id, job.id),
        ).fetchall()
        latest = {sop_uid: (earlier, series_uid, content) for earlier, sop_uid, series_uid, content in rows}
        for sop_uid, (earlier, series_uid, content) in latest.items():
            name = _file_name(str(sop_uid), content)
            source, target = self._folder(int(earlier)) / "originals" / name, job.originals / name
            if source.is_file() and not target.exists():
                link_or_copy(source, target)
                database.execute(
                    "INSERT OR IGNORE INTO instances VALUES (?, ?, ?, ?)", (job.id, sop_uid, series_uid, content)
                )

    def content_of(self, job: StudyJob) -> str:
        """A digest of the images of a job."""
        with self._lock:
            rows = self._database.execute("SELECT sop_uid, content FROM instances WHERE job = ?", (job.id,)).fetchall()
        return digest(*sorted(f"{sop_uid} {content.hex()}" for sop_uid, content in rows), size=6).hex()

    def next_due(self, state: JobState, expected: Collection[tuple[str, str]] = ()) -> StudyJob | None:
        """The job whose time has come, unless it is `expected`: the one tried least, which holds up no others."""
        with self._lock:
            ready = [job for job in self.jobs(state) if job.due <= self._now()]
        ready = [job for job in ready if (job.study_uid, job.caller) not in expected]
        return min(ready, key=lambda job: job.attempts, default=None)

    def begin_upscaling(self, job: StudyJob) -> StudyJob | None:
        """Take a waiting job, counting the attempt before it is made; None where more images came meanwhile."""
        with self._lock, self._transaction() as database:
            changed = database.execute(
                "UPDATE jobs SET state = ?, attempts = attempts + 1, changed = ? WHERE id = ? AND state = ?",
                (JobState.UPSCALING, self._now(), job.id, JobState.WAITING),
            ).rowcount
        return self.job(job.id) if changed else None

    def give_back(self, job: StudyJob, *, seconds: float = 0, reason: str = "") -> None:
        """Return an interrupted job to the queue for `seconds`; the interruption does not count as an attempt."""
        due = self._now() + seconds if seconds else 0.0
        with self._lock, self._transaction() as database:
            self._set(database, job, JobState.WAITING, attempts=max(0, job.attempts - 1), due=due, reason=reason)

    def upscaled(self, job: StudyJob, result: str, problem: str) -> None:
        """Pass a job on to be delivered; `problem` says which series have no result."""
        with self._lock, self._transaction() as database:
            self._set(database, job, JobState.SENDING, result=result, reason=problem)

    def mark_sent(self, job: StudyJob, sop_uid: str) -> None:
        """Note that the destination has an image."""
        with self._lock, self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO sent VALUES (?, ?)", (job.id, sop_uid))

    def sent_uids(self, job: StudyJob) -> set[str]:
        """The images that the destination has."""
        with self._lock:
            rows = self._database.execute("SELECT sop_uid FROM sent WHERE job = ?", (job.id,)).fetchall()
        return {str(uid) for (uid,) in rows}

    def postpone(self, job: StudyJob, seconds: float) -> None:
        """Retry a delivery after `seconds`."""
        with self._lock, self._transaction() as database:
            database.execute(
                "UPDATE jobs SET attempts = attempts + 1, due = ?, changed = ? WHERE id = ?",
                (self._now() + seconds, self._now(), job.id),
            )

    def finish(self, job: StudyJob, problem: str) -> None:
        """End a job, as failed where there is a problem."""
        state = JobState.FAILED if problem else JobState.SENT
        with self._lock, self._transaction() as database:
            self._set(database, job, state, result=job.result, reason=problem)

    def retry_failed(self) -> int:
        """Let all failed jobs be upscaled and delivered again; returns how many.

        Series and images that are done stay done.
        """
        with self._lock, self._transaction() as database:
            return database.execute(
                "UPDATE jobs SET state = ?, attempts = 0, due = 0, reason = '', changed = ? WHERE state = ?",
                (JobState.WAITING, self._now(), JobState.FAILED),
            ).rowcount

    def remove_delivered(self, keep_s: float) -> int:
        """Remove the jobs that were delivered longer ago than this, with their files."""
        return self._remove(JobState.SENT, self._now() - keep_s)

    def drop_failed(self) -> int:
        """Remove the failed jobs, with what was received for them; returns how many."""
        return self._remove(JobState.FAILED, float("inf"))

    def _remove(self, state: JobState, before: float) -> int:
        with self._lock, self._transaction() as database:
            rows = database.execute("SELECT id FROM jobs WHERE state = ? AND changed <= ?", (state, before)).fetchall()
            database.executemany("DELETE FROM jobs WHERE id = ?", rows)
        for (number,) in rows:
            shutil.rmtree(self._folder(number), ignore_errors=True)
        return len(rows)

    def free_bytes(self) -> int:
        """Free space on the disk of the queue."""
        return shutil.disk_usage(self.folder).free

    def job(self, number: int) -> StudyJob:
        """A job as it is now.

        Raises:
            CtsrError: it was removed.
        """
        found = next(iter(self._selected("WHERE id = ?", number)), None)
        if found is None:
            raise CtsrError(f"job {number} is no longer in the queue")
        return found

    def jobs(self, state: JobState | None = None) -> list[StudyJob]:
        """All jobs, or those of a state, oldest first."""
        return list(self._selected("") if state is None else self._selected("WHERE state = ?", state))

    def _selected(self, where: str, *values: str | int) -> Iterator[StudyJob]:
        with self._lock:
            rows = self._database.execute(
                "SELECT id, study_uid, caller, state, received, attempts, due, reason, result, "
                "(SELECT count(*) FROM instances WHERE job = id), (SELECT count(*) FROM sent WHERE job = id) "
                f"FROM jobs {where} ORDER BY id",
                values,
            ).fetchall()
        for number, study_uid, caller, state, *others in rows:
            yield StudyJob(number, self._folder(number), study_uid, caller, JobState(state), *others)

    def _set(
        self,
        database: sqlite3.Connection,
        job: StudyJob,
        state: JobState,
        *,
        attempts: int = 0,
        due: float = 0.0,
        result: str = "",
        reason: str = "",
    ) -> None:
        database.execute(
            "UPDATE jobs SET state = ?, attempts = ?, due = ?, result = ?, reason = ?, changed = ? WHERE id = ?",
            (state, attempts, due, result, reason, self._now(), job.id),
        )

    def _folder(self, number: int) -> Path:
        return self._jobs / str(number)

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        """Changes that happen together or not at all."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
            self._database.execute("COMMIT")
        except BaseException:  # an interruption, too, must not leave half of a change
            with suppress(sqlite3.Error):  # SQLite may have rolled back itself, when the disk is full
                self._database.execute("ROLLBACK")
            raise

    def _recover(self) -> None:
        """Take over where a node was killed: unacknowledged images go, work that was under way waits again."""
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(exist_ok=True)
        known = {str(job.id) for job in self.jobs()}
        for folder in self._jobs.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
        for job in self.jobs():
            self._match_files(job)
        self._cut_off = {job.id: job.received for job in self.jobs(JobState.RECEIVING)}
        for job in self.jobs(JobState.UPSCALING):
            # The first death is taken for a coincidence. A study that causes them is to leave time for the others.
            delay = min(FIRST_DELAY_S * 2 ** (job.attempts - 2), MAX_DELAY_S) if job.attempts > 1 else 0.0
            reason = f"the node ended while this was upscaled, attempt {job.attempts}" if delay else ""
            with self._lock, self._transaction() as database:
                due = self._now() + delay
                self._set(database, job, JobState.WAITING, attempts=job.attempts, due=due, reason=reason)

    def _match_files(self, job: StudyJob) -> None:
        """Drop rows without a file and files without a row: a power cut came before they were acknowledged."""
        rows = self._database.execute("SELECT sop_uid, content FROM instances WHERE job = ?", (job.id,)).fetchall()
        expected = {_file_name(sop_uid, content): sop_uid for sop_uid, content in rows}
        found = {path.name for path in job.originals.glob("*")}
        with self._transaction() as database:
            for name in expected.keys() - found:
                database.execute("DELETE FROM instances WHERE job = ? AND sop_uid = ?", (job.id, expected[name]))
            if expected.keys().isdisjoint(found):
                database.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
        for name in found - expected.keys():
            (job.originals / name).unlink()


def _file_name(sop_uid: str, fingerprint: bytes) -> str:
    """Another for each content, so that no file is ever written over."""
    return f"{digest(sop_uid, fingerprint.hex()).hex()}.dcm"
