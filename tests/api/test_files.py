"""Series read as volumes, and volumes written as series that other programs read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

import ctsr
from ctsr.errors import DomainError, UsageError
from ctsr.volume import Volume
from tests.made.ct import body, save_series


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A series of three slices."""
    folder = tmp_path / "exams" / "P1" / "s"
    save_series(folder, [body(48, seed=i, texture=60) for i in range(3)])
    return folder


def test_a_volume_is_written_as_a_series_of_the_same_patient(source: Path, tmp_path: Path) -> None:
    (series,) = ctsr.scan(source).all_series()
    volume = ctsr.read_volume(series)
    changed = replace(volume, hu=np.where(volume.hu > -500, volume.hu + np.float32(10), volume.hu))
    out = ctsr.write_series(changed, tmp_path / "out", like=series, description="Shifted", label="[shift]")
    again = ctsr.read_volume(out)
    np.testing.assert_array_equal(again.hu, changed.hu)
    assert again.grid == volume.grid
    header, original = dcmread(out / "0001.dcm"), dcmread(series.slices[0].path)
    assert header.StudyInstanceUID == original.StudyInstanceUID
    assert header.SeriesInstanceUID != original.SeriesInstanceUID
    assert header.DerivationDescription.startswith("Shifted; ctsr ")
    assert header.SeriesDescription.endswith("[shift]")
    by_network = ctsr.write_series(replace(changed, made_by="some-network"), tmp_path / "made", like=series)
    assert dcmread(by_network / "0001.dcm").DerivationDescription.startswith("Not for diagnosis. Computed from ")


def test_the_same_volume_gets_the_same_uids(source: Path, tmp_path: Path) -> None:
    volume = ctsr.read_volume(source)
    first, second = (
        ctsr.write_series(volume, tmp_path / "a", like=source),
        ctsr.write_series(volume, tmp_path / "b", like=source),
    )
    assert (first / "0002.dcm").read_bytes() == (second / "0002.dcm").read_bytes()


@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 100"])
def test_words_are_written_in_the_sources_character_set_wherever_they_stand(tmp_path: Path, charset: str) -> None:
    save_series(tmp_path / "s", [body(48, seed=i) for i in range(2)], SpecificCharacterSet=charset)
    volume = ctsr.read_volume(tmp_path / "s")
    out = ctsr.write_series(volume, tmp_path / "out", like=tmp_path / "s", description="Gauß")
    header = dcmread(out / "0001.dcm")
    for text in (header.DerivationDescription, header.ContributingEquipmentSequence[-1].ContributionDescription):
        assert text.startswith("Gauß; ctsr ")


def test_nifti_needs_no_source(tmp_path: Path) -> None:
    volume = Volume.from_array(np.stack([body(32, seed=i) for i in range(3)]), (2.5, 0.75, 0.5))
    again = ctsr.read_volume(ctsr.write_series(volume, tmp_path / "volume.nii.gz"))
    np.testing.assert_array_equal(again.hu, volume.hu)
    assert again.grid.spacing == pytest.approx(volume.grid.spacing)


def test_nothing_is_written_over(source: Path, tmp_path: Path) -> None:
    volume = ctsr.read_volume(source)
    out = ctsr.write_series(volume, tmp_path / "out", like=source)
    with pytest.raises(UsageError, match="`overwrite=True`"):
        ctsr.write_series(volume, out, like=source)
    ctsr.write_series(volume, out, like=source, overwrite=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="other files"):
        ctsr.write_series(volume, out, like=source, overwrite=True)
    with pytest.raises(UsageError, match="are inside one another"):
        ctsr.write_series(volume, source, like=source, overwrite=True)


def test_what_does_not_fit_is_refused(source: Path, tmp_path: Path) -> None:
    volume = ctsr.read_volume(source)
    with pytest.raises(UsageError, match="`like`"):
        ctsr.write_series(volume, tmp_path / "out")
    two = Volume.from_array(volume.hu[:2], volume.grid.spacing)
    with pytest.raises(DomainError, match="2 slices"):
        ctsr.write_series(two, tmp_path / "out", like=source)
    save_series(source.parent / "t", [body(48)] * 2, series="1.2.9")
    with pytest.raises(UsageError, match="2 series"):
        ctsr.read_volume(source.parent)
    assert ctsr.read_volume(source.parent, series="1.2.9").grid.shape[0] == 2


def test_series_that_nothing_names_apart_are_said_to_need_folders_of_their_own(source: Path) -> None:
    save_series(source.parent / "coarse", [body(24, seed=i) for i in range(3)], spacing=(1.6, 1.6))
    with pytest.raises(UsageError, match="folders of their own"):
        ctsr.read_volume(source.parent, series="1.2.3.4")
