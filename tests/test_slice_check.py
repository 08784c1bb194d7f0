"""One slice of other values is found among sound ones; slices of real CT are not doubted."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

import ctsr
from ctsr.data.datasets import open_exams
from ctsr.degrade import Degradation
from ctsr.errors import ReadError, SeriesError
from ctsr.exams import read_slice, scan
from ctsr.hashing import derived_uid
from ctsr.padding import HUFinding, Verdict
from ctsr.series import Command
from ctsr.series_quality import NeighbourCheck, SliceJudge
from ctsr.viewer import ViewOptions
from ctsr.viewer.session import open_session
from ctsr.viewer.state import ViewRequest, prepare
from ctsr.volume import Volume
from tests.made.ct import body, save_series
from tests.made.exams import kinds, only_series, study_of
from tests.made.listener import Listener


def windowed(hu: np.ndarray) -> np.ndarray:
    return np.rint(np.clip((hu + 160) / 400 * 255, 0, 255))


def judged(volume: np.ndarray, order: Iterable[int] | None = None) -> dict[int, HUFinding]:
    """What is found of the slices of a volume, read in some order."""
    judge = NeighbourCheck(len(volume))
    found: dict[int, HUFinding] = {}
    for index in order or range(len(volume)):
        found |= dict(judge.add(index, volume[index].astype(np.float32)))
    return found


BODIES = np.stack([body(96, seed=seed, texture=20) for seed in range(7)]).astype(np.float32)
STORED = BODIES + 1024
ODD: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Verdict]] = {
    "stretched": (lambda hu: 1.2 * hu, Verdict.SHIFTED),
    "stretched much": (lambda hu: 2 * hu, Verdict.IMPLAUSIBLE),
    "stretched about 0 of what is stored": (lambda hu: 1.2 * (hu + 1024) - 1024, Verdict.SHIFTED),
    "shifted": (lambda hu: hu + 100, Verdict.SHIFTED),
    "a lost intercept": (lambda hu: hu + 1024, Verdict.IMPLAUSIBLE),
    "windowed": (windowed, Verdict.IMPLAUSIBLE),
    "cut off": (lambda hu: hu.clip(-1000, 20), Verdict.CUT_OFF),
    "swapped bytes": (lambda hu: (hu + 1024).astype("<u2").byteswap() - 1024.0, Verdict.IMPLAUSIBLE),
    "a lost sign": (lambda hu: np.where(hu < 0, hu + 65536, hu), Verdict.IMPLAUSIBLE),
    "bits moved down": (lambda hu: (hu + 1024) // 16 - 1024, Verdict.SHIFTED),
    "nothing but 0": (np.zeros_like, Verdict.IMPLAUSIBLE),
    "the lower half lost": (lambda hu: np.where(np.arange(96)[:, None] < 48, hu, -1024), Verdict.IMPLAUSIBLE),
    "the upper half lost": (lambda hu: np.where(np.arange(96)[:, None] > 48, hu, 0), Verdict.IMPLAUSIBLE),
}
"""What may have become of one slice, and the verdict on it."""


@pytest.mark.parametrize("order", [range(7), (6, 1, 3, 5, 0, 2, 4)])
@pytest.mark.parametrize("what", ODD)
def test_one_odd_slice_is_found_among_sound_ones_and_no_other(what: str, order: Iterable[int]) -> None:
    change, verdict = ODD[what]
    volume = BODIES.copy()
    volume[4] = change(volume[4])
    assert {index: finding.verdict for index, finding in judged(volume, order).items()} == {4: verdict}


@pytest.mark.parametrize("order", [range(7), (6, 1, 3, 5, 0, 2, 4)])
@pytest.mark.parametrize(
    ("places", "told"),
    [
        ([0, 1, 2, 2, 4, 5, 6], [3]),
        ([0, 0, 2, 3, 4, 5, 6], [1]),
        ([0, 1, 2, 3, 4, 5, 5], [6]),
        ([0, 1, 2, 2, 2, 5, 6], [4]),
        ([0, 0, 1, 1, 2, 2, 3], [1, 3, 5]),  # thin slices made of thick ones by writing each twice
        ([0] * 7, []),
    ],
)
def test_a_slice_that_is_a_copy_of_the_one_before_it_is_named(
    places: list[int], told: list[int], order: Iterable[int]
) -> None:
    found = judged(BODIES[places], order)
    assert {index: finding.verdict for index, finding in found.items()} == dict.fromkeys(told, Verdict.REPEATED)


def test_slices_without_noise_may_be_alike() -> None:
    flat = np.where(BODIES > -500, 40.0, -1000.0)
    flat[5:] = np.where(BODIES[5:] > -500, 45.0, -1000.0)
    assert judged(flat) == {}


@pytest.mark.parametrize("name", ["volume", "dicom"])
def test_a_repeated_slice_is_warned_about(tmp_path: Path, name: str) -> None:
    volume = BODIES.copy()
    volume[3] = volume[2]
    save_series(tmp_path / "s", volume)
    source = tmp_path / "s"
    if name == "volume":
        ctsr.write_series(Volume.from_array(volume, (2.5, 0.7, 0.7)), tmp_path / "ct.nii.gz")
        source = tmp_path / "ct.nii.gz"
    with pytest.warns(UserWarning, match="its pixels are those of the slice before it"):
        assert ctsr.read_volume(source).hu.shape == BODIES.shape


@pytest.mark.parametrize("what", ["stretched", "stretched much", "windowed", "swapped bytes", "the lower half lost"])
@pytest.mark.parametrize("end", [0, 6])
def test_an_odd_slice_at_an_end_is_found_too(what: str, end: int) -> None:
    volume = BODIES.copy()
    volume[end] = ODD[what][0](volume[end])
    assert list(judged(volume)) == [end]


NOISY = np.stack([body(96, seed=seed, texture=20) for seed in range(7)]) + np.random.default_rng(0).normal(
    0, 22, (7, 96, 96)
)


@pytest.mark.parametrize("shift", [-70, -50, 50, 70])
@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_small_shift_is_found_in_noise(shift: float, at: int) -> None:
    assert judged(NOISY) == {}
    volume = NOISY.copy()
    volume[at] += shift
    assert {index: finding.verdict for index, finding in judged(volume).items()} == {at: Verdict.SHIFTED}


def with_bone(seed: int) -> np.ndarray:
    """A body with a few pixels of bone, fewer the denser: 8 of 9216 above 1000 HU."""
    hu = body(96, seed=seed, texture=20).astype(np.float32)
    hu[40:44, 30:60] = np.linspace(300, 1140, 120).reshape(4, 30) + np.random.default_rng(seed).normal(0, 5, (4, 30))
    return hu


@pytest.mark.parametrize("highest", [400.0, 700.0, 1000.0])
@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_few_pixels_that_are_cut_off_are_found(highest: float, at: int) -> None:
    volume = np.stack([with_bone(seed) for seed in range(7)])
    assert judged(volume) == {}
    volume[at] = volume[at].clip(None, highest)
    ((index, finding),) = judged(volume).items()
    assert (index, finding.verdict) == (at, Verdict.CUT_OFF)
    assert f"its highest value, {highest:g}" in finding.detail


def test_metal_is_not_taken_for_values_that_are_cut_off() -> None:
    volume = np.stack([with_bone(seed) for seed in range(7)])
    volume[2:4, 50:56, 50:56] = 3071
    volume[4, 50:52, 50:52] = 3000
    volume[5, 60:62, 60:64] = 1250  # an implant of one density, the densest there is
    assert judged(volume) == {}


def test_a_windowed_slice_is_found_where_all_air_is_padding() -> None:
    volume = np.stack([with_bone(seed) for seed in range(7)])
    volume[:, 30:60, 20:40] = -700 + NOISY[:, 30:60, 20:40] / 4  # lung: what the window cuts off, as it does bone
    padding = volume < -900
    judge = NeighbourCheck(7)
    sound = [judge.add(index, hu, padding[index]) for index, hu in enumerate(volume)]
    assert not any(sound)
    judge, found = NeighbourCheck(7), []
    for index, hu in enumerate(volume):
        found += judge.add(index, hu.clip(-160, 240) if index == 3 else hu, padding[index])
    assert [index for index, _ in found] == [3]


def test_sound_slices_are_not_doubted_whatever_they_show() -> None:
    plate = np.where(BODIES > -500, 990, BODIES)  # a phantom of plates: water, PTFE
    nothing = np.full((2, 96, 96), -1000.0)  # above the head
    assert judged(BODIES) == {}
    assert judged(np.concatenate([plate[:3], BODIES, nothing])) == {}
    assert judged(np.concatenate([BODIES[:4], plate[4:]])) == {}


def test_a_run_of_odd_slices_is_found_where_it_begins() -> None:
    volume = np.concatenate([BODIES, BODIES + 1024])
    assert min(judged(volume)) in {6, 7}


@pytest.mark.parametrize("command", ["preprocess", "train", "evaluate", "upscale"])
def test_a_command_treats_an_odd_slice_as_the_table_of_defects_says(tmp_path: Path, command: Command) -> None:
    volume = BODIES.copy()
    volume[2], volume[5] = volume[2].clip(-1000, 20), windowed(volume[5])
    save_series(tmp_path / "anna", volume)
    series = only_series(tmp_path)
    assert kinds(series) == set()
    judge, sure = SliceJudge(series, command), SliceJudge(series, command, assume_hu=True)
    warnings: list[str] = []
    for index in range(6):
        warnings += judge(index, read_slice(series, index))
    assert ["IM3: unlike its series" in warning for warning in warnings] == [True]
    with pytest.raises(SeriesError, match=r"IM6: unlike its series, .* windowed to 8 bits; export it again"):
        judge(6, read_slice(series, 6))
    assert len([line for index in range(7) for line in sure(index, read_slice(series, index))]) == 2


def test_an_odd_slice_of_a_training_series_is_named(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        bodies = [body(96, seed=10 * number + seed, texture=20) for seed in range(7)]
        images = [hu + 100 if (name, index) == ("a", 2) else hu for index, hu in enumerate(bodies)]
        uids = {"series": derived_uid("series", name), "StudyInstanceUID": study_of(name), "PatientID": f"PID {name}"}
        save_series(tmp_path / "raw" / name, images, **uids)
    exams = open_exams([tmp_path / "raw"], folder=tmp_path, progress=(listener := Listener()))
    part = next(name for name in ("train", "val", "test") if "a" in exams.split.part(name))
    for _ in range(2):  # decoded, then from the cache
        listener.notes.clear()
        opened = exams.part(part, "train", tmp_path / "store", progress=listener)
        assert not opened.failures
        assert any("IM3" in note and "unlike its series" in note for note in listener.notes)


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "70 HU lower": (lambda hu: hu - 70, 0.95),
    "stretched by a tenth": (lambda hu: 1.1 * hu, 0.85),
    "cut off at 1000": (lambda hu: hu.clip(None, 1000), 0.75),
    "windowed": (windowed, 0.95),
    "a lost sign": (lambda hu: np.where(hu < 0, hu + 65536, hu), 0.95),
}
"""What may have become of one slice, and the least share of real series in which it is found."""


def test_one_changed_slice_of_a_real_series_is_found(real_ct: Path) -> None:
    found, changed = dict.fromkeys(CHANGES, 0), dict.fromkeys(CHANGES, 0)
    for series in (
        item for name in ("patients", "more", "thin", "phantoms", "pairs") for item in scan(real_ct / name).all_series()
    ):
        middle, count = len(series.slices) // 2, len(series.slices)
        if count < 3:
            continue
        slices = {index: read_slice(series, index) for index in range(max(0, middle - 2), min(count, middle + 3))}
        for name, (change, _) in CHANGES.items():
            odd = change(slices[middle].hu.astype(np.float32))
            judge = NeighbourCheck(count)
            hu = {index: odd if index == middle else pixels.hu for index, pixels in slices.items()}
            names = [index for index in hu for index, _ in judge.add(index, hu[index], slices[index].padding)]
            changed[name] += bool((odd != slices[middle].hu).any())
            found[name] += middle in names
            assert set(names) <= {middle}, (series.path, name)
    assert all(found[name] >= least * changed[name] for name, (_, least) in CHANGES.items()), (found, changed)


def test_no_slice_of_a_real_series_is_doubted(real_ct: Path) -> None:
    roots = [real_ct / name for name in ("patients", "more", "thin", "odd", "phantoms", "pairs")]
    count = 0
    for series in (item for root in roots for item in scan(root).all_series()):
        judge = SliceJudge(series, "upscale")
        for index in range(len(series.slices)):
            with contextlib.suppress(ReadError):
                assert judge.defects(index, read_slice(series, index)) == [], series.path
                count += 1
    assert count > 500


@pytest.fixture
def odd_series(tmp_path: Path) -> Path:
    """Seven slices, of which the third is 100 HU too high and the sixth is windowed."""
    volume = BODIES.copy()
    volume[2], volume[5] = volume[2] + 100, windowed(volume[5])
    save_series(tmp_path / "exams" / "anna", volume)
    return tmp_path / "exams"


def test_a_volume_is_read_with_a_warning_for_each_odd_slice(odd_series: Path) -> None:
    with pytest.warns(UserWarning, match="unlike its series") as warned:
        volume = ctsr.read_volume(odd_series / "anna")
    assert [str(warning.message).partition(": unlike")[0][-3:] for warning in warned] == ["IM3", "IM6"]
    assert volume.hu.shape == BODIES.shape
    listener = Listener()
    ctsr.read_volume(odd_series / "anna", progress=listener)
    assert [note.startswith("warning: ") for note in listener.notes] == [True, True]


@pytest.mark.filterwarnings("error")
def test_a_sound_volume_is_read_without_one(tmp_path: Path) -> None:
    save_series(tmp_path / "exams" / "anna", BODIES)
    assert ctsr.read_volume(tmp_path / "exams").hu.shape == BODIES.shape


def test_the_viewer_names_each_odd_slice_and_no_file_where_names_are_hidden(odd_series: Path, tmp_path: Path) -> None:
    for hidden in (False, True):
        options = ViewOptions(store=tmp_path / "store", no_names=hidden)
        session = open_session(prepare(ViewRequest(odd_series, None, Degradation(), options)), options)
        doubts = session.geometry(0)["doubts"]
        session.close()
        assert [doubt.split(" ")[1].rstrip(":") for doubt in doubts] == [
            "2",
            "5",
        ]  # counted from 0, as slices are on the page
        assert all("unlike its series" in doubt and doubt.endswith("export it again.") for doubt in doubts)
        assert ["IM3" in doubt for doubt in doubts] == [not hidden, False]
