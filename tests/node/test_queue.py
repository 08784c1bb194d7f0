import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctsr.errors import MissingInputError, UsageError
from ctsr.node.queue import Instance, JobState, Queue, StudyJob

FIRST = Instance("1.2.3", "1.2.3.4", "1.2.3.4.1", "ROUTER")
SECOND = replace(FIRST, sop_uid="1.2.3.4.2")


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Iterator[Queue]:
    queue = Queue(tmp_path / "queue", now=clock)
    yield queue
    queue.close()


def test_a_queue_is_for_the_eyes_of_its_user_only(queue: Queue, tmp_path: Path) -> None:
    assert stat.S_IMODE(queue.folder.stat().st_mode) == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    Queue(tmp_path / "shared").close()
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755, "who made it has decided"


def images(job: StudyJob) -> list[bytes]:
    return sorted(path.read_bytes() for path in job.originals.iterdir())


def complete(queue: Queue) -> StudyJob:
    (job,) = queue.close_quiet(0, ())
    return job


def upscaling(queue: Queue) -> StudyJob:
    job = queue.begin_upscaling(complete(queue))
    assert job is not None
    return job


def test_what_was_received_is_there_after_a_kill_and_what_was_under_way_waits_again(queue: Queue) -> None:
    queue.receive(FIRST, b"one")
    job = upscaling(queue)
    (queue.folder / "incoming" / "half").write_bytes(b"never acknowledged")
    (queue.folder / "jobs" / "77").mkdir()
    queue.close()
    again = Queue(queue.folder)
    (found,) = again.jobs()
    assert (found.id, found.state, found.attempts) == (job.id, JobState.WAITING, 1)
    assert images(found) == [b"one"]
    assert not list((queue.folder / "incoming").iterdir())
    assert [folder.name for folder in (queue.folder / "jobs").iterdir()] == [str(job.id)]
    again.close()


def test_a_queue_belongs_to_one_node_but_is_listed_beside_it(queue: Queue, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another node"):
        Queue(queue.folder)
    queue.receive(FIRST, b"one")
    reader = Queue(queue.folder, exclusive=False)
    assert [job.num_images for job in reader.jobs()] == [1]
    reader.close()
    with pytest.raises(MissingInputError):
        Queue(tmp_path / "none", exclusive=False)
    assert not (tmp_path / "none").exists()


def test_the_same_bytes_are_taken_once_and_others_under_the_same_uid_replace_them(queue: Queue) -> None:
    assert not queue.receive(FIRST, b"one").is_known
    assert queue.receive(FIRST, b"one").is_known
    receipt = queue.receive(FIRST, b"corrected")
    assert (receipt.is_known, receipt.has_replaced) == (False, True)
    job = complete(queue)
    assert (job.num_images, images(job)) == (1, [b"corrected"])
    # Another caller's study is another job: nobody takes back or changes what others sent.
    queue.receive(replace(FIRST, caller="OTHER"), b"one")
    assert len(queue.jobs()) == 2


def test_a_study_is_complete_when_nothing_came_for_a_while_and_nobody_is_connected(queue: Queue, clock: Clock) -> None:
    number = queue.receive(FIRST, b"one").job_id
    clock.seconds += 9
    assert queue.close_quiet(10, ()) == []
    clock.seconds += 1
    assert queue.close_quiet(10, {number}) == []
    assert [job.id for job in queue.close_quiet(10, ())] == [number]


def test_a_study_of_which_more_is_known_to_come_waits_for_it(queue: Queue, clock: Clock) -> None:
    number = queue.receive(FIRST, b"one").job_id
    clock.seconds += 100
    assert queue.close_quiet(10, (), {(FIRST.study_uid, FIRST.caller)}) == []
    assert [job.id for job in queue.close_quiet(10, (), {(FIRST.study_uid, "OTHER")})] == [number]


def begun_again(queue: Queue, clock: Clock) -> Queue:
    """The queue of the next node, a while later."""
    queue.close()
    clock.seconds += 1000
    return Queue(queue.folder, now=clock)


def test_a_study_that_was_being_received_when_the_node_ended_waits_for_its_rest(queue: Queue, clock: Clock) -> None:
    number = queue.receive(FIRST, b"one").job_id
    again = begun_again(queue, clock)
    clock.seconds += 599
    assert again.close_quiet(10, (), patience_s=600) == []
    # What comes ends the waiting: from then on the study is as any other.
    again.receive(SECOND, b"two")
    clock.seconds += 9
    assert again.close_quiet(10, (), patience_s=600) == []
    clock.seconds += 1
    assert [job.id for job in again.close_quiet(10, (), patience_s=600)] == [number]
    again.close()


def test_the_rest_of_a_study_that_never_comes_is_not_waited_for_without_end(queue: Queue, clock: Clock) -> None:
    number = queue.receive(FIRST, b"one").job_id
    again = begun_again(queue, clock)
    clock.seconds += 600
    assert [job.id for job in again.close_quiet(10, (), patience_s=600)] == [number]
    again.close()


def test_late_slices_join_a_study_that_waits(queue: Queue) -> None:
    first = queue.receive(FIRST, b"one").job_id
    complete(queue)
    assert queue.receive(SECOND, b"two").job_id == first
    assert images(complete(queue)) == [b"one", b"two"]


def test_late_slices_of_a_study_that_was_taken_are_upscaled_with_the_rest_of_their_series(queue: Queue) -> None:
    other = replace(FIRST, series_uid="1.2.3.5", sop_uid="1.2.3.5.1")
    queue.receive(FIRST, b"one")
    queue.receive(other, b"other series")
    taken = upscaling(queue)
    late = queue.receive(SECOND, b"two").job_id
    assert late != taken.id
    job = complete(queue)
    assert (job.num_images, images(job)) == (2, [b"one", b"two"])
    assert images(taken) == [b"one", b"other series"]


def test_a_slice_that_was_corrected_too_late_is_upscaled_as_corrected(queue: Queue) -> None:
    queue.receive(FIRST, b"one")
    queue.receive(SECOND, b"two")
    upscaling(queue)
    queue.receive(FIRST, b"corrected")
    job = complete(queue)
    assert (job.num_images, images(job)) == (2, [b"corrected", b"two"])


def test_a_study_that_waits_to_be_begun_and_is_known_to_lack_images_is_not_begun(queue: Queue) -> None:
    queue.receive(FIRST, b"one")
    job = complete(queue)
    assert queue.next_due(JobState.WAITING, {(FIRST.study_uid, FIRST.caller)}) is None
    assert queue.next_due(JobState.WAITING, {(FIRST.study_uid, "OTHER")}) == job


def test_a_clock_that_is_set_back_makes_no_study_one_that_was_cut_off(queue: Queue, clock: Clock) -> None:
    clock.seconds -= 300
    number = queue.receive(FIRST, b"one").job_id
    clock.seconds += 9
    assert queue.close_quiet(10, (), patience_s=600) == []
    clock.seconds += 1
    assert [job.id for job in queue.close_quiet(10, (), patience_s=600)] == [number]


def test_a_job_that_grew_again_is_not_begun(queue: Queue) -> None:
    queue.receive(FIRST, b"one")
    job = complete(queue)
    queue.receive(SECOND, b"two")
    assert queue.begin_upscaling(job) is None


def test_delivery_is_remembered_by_image_and_postponed_by_job(queue: Queue, clock: Clock) -> None:
    queue.receive(FIRST, b"one")
    queue.upscaled(upscaling(queue), "results", "")
    job = queue.next_due(JobState.SENDING)
    assert job is not None
    queue.mark_sent(job, "9.9")
    queue.postpone(job, 30)
    assert queue.next_due(JobState.SENDING) is None
    clock.seconds += 30
    due = queue.next_due(JobState.SENDING)
    assert due is not None
    assert (due.attempts, due.num_sent, due.result) == (1, 1, "results")
    assert queue.sent_uids(due) == {"9.9"}


def test_delivered_jobs_go_after_a_while_and_failed_ones_stay_until_told(queue: Queue, clock: Clock) -> None:
    queue.receive(FIRST, b"one")
    sent = upscaling(queue)
    queue.finish(sent, "")
    queue.receive(replace(FIRST, study_uid="1.9", sop_uid="1.9.1"), b"bad")
    failed = upscaling(queue)
    queue.finish(failed, "it is broken")
    assert queue.remove_delivered(10) == 0
    clock.seconds += 10
    assert queue.remove_delivered(10) == 1
    assert not sent.folder.exists()
    assert [(job.id, job.reason) for job in queue.jobs()] == [(failed.id, "it is broken")]
    assert queue.retry_failed() == 1
    again = queue.begin_upscaling(queue.job(failed.id))
    assert again is not None
    queue.finish(again, "still")
    assert queue.drop_failed() == 1
    assert not failed.folder.exists()


def test_an_image_that_cannot_be_kept_leaves_nothing(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            queue.receive(FIRST, b"one")
    assert queue.jobs() == []
    assert not queue.receive(SECOND, b"two").is_known
    assert images(complete(queue)) == [b"two"]


def test_rows_and_files_that_a_power_cut_left_apart_are_dropped(queue: Queue) -> None:
    queue.receive(FIRST, b"one")
    job = queue.job(queue.receive(SECOND, b"two").job_id)
    next(path for path in job.originals.iterdir() if path.read_bytes() == b"one").unlink()
    (job.originals / "other.dcm").write_bytes(b"no row")
    queue.close()
    again = Queue(queue.folder)
    assert images(complete(again)) == [b"two"]
    assert not again.receive(FIRST, b"one").is_known
    again.close()


def test_a_study_in_which_the_node_ends_is_begun_after_the_others_and_ever_later(queue: Queue, clock: Clock) -> None:
    folder = queue.folder
    queue.receive(FIRST, b"one")
    queue.receive(replace(SECOND, study_uid="1.2.4"), b"another study")
    queue.close_quiet(0, ())
    delays: list[float] = []
    for _ in range(3):
        job = queue.next_due(JobState.WAITING)
        assert job is not None
        # Killed: nothing is noted of the end.
        queue.begin_upscaling(job)
        queue.close()
        queue = Queue(folder, now=clock)
        delays.append(queue.job(job.id).due - clock.seconds)
    assert [job.attempts for job in queue.jobs()] == [2, 1], "the one that was tried less came first"
    assert delays == [0, 0, 30]
    assert "attempt 2" in queue.job(1).reason
    clock.seconds += 30
    queue.close()


def test_a_study_that_found_no_room_waits_and_counts_no_attempt(queue: Queue, clock: Clock) -> None:
    queue.receive(FIRST, b"one")
    queue.give_back(upscaling(queue), seconds=30, reason="no room")
    (job,) = queue.jobs()
    assert (job.state, job.attempts, job.reason) == (JobState.WAITING, 0, "no room")
    assert queue.next_due(JobState.WAITING) is None
    clock.seconds += 30
    assert queue.next_due(JobState.WAITING) == job
