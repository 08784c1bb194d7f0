from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from scipy import ndimage

from ctsr.dicom.encode import IMPLEMENTATION_CLASS_UID
from ctsr.exams import read_slice, scan
from ctsr.preprocess import PreprocessReport, preprocess
from ctsr.series import Series
from tests.made.exams import REAL_PATIENTS
from tests.oracles import dciodvfy_errors


@pytest.fixture(scope="module")
def result(real_ct: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PreprocessReport, Path]:
    out = tmp_path_factory.mktemp("preprocessed")
    return preprocess(real_ct / "patients", out), out


@pytest.fixture(scope="module")
def series_of(real_ct: Path, result: tuple[PreprocessReport, Path]) -> dict[str, tuple[Series, Series]]:
    """Patient → (source, result)."""
    sources, news = scan(real_ct / "patients"), scan(result[1])
    return {
        source.patient_id: (source, new) for source, new in zip(sources.all_series(), news.all_series(), strict=True)
    }


def test_every_slice_of_every_patient_is_made(result: tuple[PreprocessReport, Path]) -> None:
    report, _ = result
    assert (report.written, report.failed) == (294, 0)
    assert tuple(row.patient_id for row in report.rows) == REAL_PATIENTS


def test_dciodvfy_finds_no_error_that_the_source_did_not_have(
    real_ct: Path, result: tuple[PreprocessReport, Path]
) -> None:
    sources = sorted(path for path in (real_ct / "patients").rglob("*") if path.is_file())

    def added(source: Path) -> set[str]:
        patient, name = source.relative_to(real_ct / "patients").parts
        return dciodvfy_errors(result[1] / f"{patient}pp" / name) - dciodvfy_errors(source)

    with ThreadPoolExecutor() as threads:
        assert set().union(*threads.map(added, sources)) == set()


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_slices_lie_where_those_of_the_source_do(series_of: dict[str, tuple[Series, Series]], patient: str) -> None:
    source, new = series_of[patient]
    assert len(new.slices) == len(source.slices)
    assert new.pixel_spacing == (0.8, 0.8)
    assert new.defects == source.defects
    for before, after in zip(source.slices, new.slices, strict=True):
        assert after.path.name == before.path.name
        assert after.position[2] == pytest.approx(before.position[2], abs=1e-6)
        for axis, (size, new_size) in enumerate(((source.columns, new.columns), (source.rows, new.rows))):
            middle = before.position[axis] + (size - 1) / 2 * source.pixel_spacing[1 - axis]
            assert after.position[axis] + (new_size - 1) / 2 * 0.8 == pytest.approx(middle, abs=1e-6)


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_tissue_keeps_its_hu_in_its_place(series_of: dict[str, tuple[Series, Series]], patient: str) -> None:
    source, new = series_of[patient]
    middle = len(source.slices) // 2
    smooth = [
        ndimage.gaussian_filter(read_slice(one, middle).hu.astype(np.float64), 4.0 / one.pixel_spacing[0])
        for one in (source, new)
    ]
    # An independent interpolation of the smoothed source, at the positions in mm of the result's pixels.
    rows, columns = (
        (new.slices[middle].position[axis] - source.slices[middle].position[axis] + 0.8 * np.arange(size))
        / source.pixel_spacing[1 - axis]
        for axis, size in ((1, new.rows), (0, new.columns))
    )
    expected = ndimage.map_coordinates(smooth[0], np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    tissue = (expected > -200) & (expected < 200)
    error = (smooth[1] - expected)[tissue]
    assert tissue.mean() > 0.05
    assert abs(error.mean()) < 0.5
    assert np.percentile(np.abs(error), 95) < 1.5


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_padding_is_found_again(series_of: dict[str, tuple[Series, Series]], patient: str) -> None:
    source, new = series_of[patient]
    masks = [read_slice(one, 0).padding for one in (source, new)]
    shares = [0.0 if mask is None else float(mask.mean()) for mask in masks]
    assert shares[1] == pytest.approx(shares[0], abs=0.003)


def test_headers_say_that_ctsr_derived_them(series_of: dict[str, tuple[Series, Series]]) -> None:
    for source, new in series_of.values():
        before, after = (dcmread(one.slices[0].path, stop_before_pixels=True) for one in (source, new))
        assert list(after.ImageType)[:3] == ["DERIVED", "SECONDARY", "AXIAL"]
        assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert after.StudyInstanceUID == before.StudyInstanceUID
        assert after.SeriesInstanceUID != before.SeriesInstanceUID
        assert after.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
