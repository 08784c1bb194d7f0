"""A round trip through a real archive: what was sent by C-STORE and by STOW-RS comes back by WADO-RS as it was."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ctsr.checkpoint import Model
from ctsr.infer import EngineRequest
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.run import upscale
from tests.made.ct import body, padded, save_series
from tests.made.orthanc import Archive, running
from tests.needs import needs


def send_by_c_store(archive: Archive, datasets: list[Dataset]) -> None:
    from pynetdicom.ae import ApplicationEntity

    entity = ApplicationEntity("CTSR")
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", archive.dicom_port)
    assert association.is_established
    try:
        assert [association.send_c_store(ds).Status for ds in datasets] == [0] * len(datasets)
    finally:
        association.release()


def test_source_and_result_come_back_pixel_by_pixel(tmp_path: Path, bilinear: Model) -> None:
    needs(find_spec("pynetdicom") is not None, "install pynetdicom to run this")
    needs(find_spec("dicomweb_client") is not None, "install dicomweb-client to run this")
    from dicomweb_client.api import DICOMwebClient

    hu = body(64, texture=30)
    hu[30:34, 30:34] = 3000
    save_series(tmp_path / "in", [padded(hu, -1024)] * 4)
    report = upscale(tmp_path / "in", tmp_path / "out", bilinear, EngineRequest("torch"), UpscaleOptions())
    assert report.failed == 0
    sources, results = ([dcmread(path) for path in sorted((tmp_path / name).glob("*[0-9]*"))] for name in ("in", "out"))
    results = [ds for ds in results if "PixelData" in ds]
    with running(tmp_path / "orthanc") as archive:
        client = DICOMwebClient(f"{archive.url}/dicom-web")
        send_by_c_store(archive, [*sources, *results[:2]])
        client.store_instances(results[2:])
        # One study holds both series: the archive sees that they belong together.
        (study,) = client.search_for_studies()
        assert study["0020000D"]["Value"] == [results[0].StudyInstanceUID]
        assert len(client.search_for_series(results[0].StudyInstanceUID)) == 2
        back = client.retrieve_series(results[0].StudyInstanceUID, results[0].SeriesInstanceUID)
    found = {ds.SOPInstanceUID: ds for ds in back}
    assert set(found) == {ds.SOPInstanceUID for ds in results}
    for ds in results:
        again = found[ds.SOPInstanceUID]
        assert np.array_equal(again.pixel_array, ds.pixel_array)
        for name in ("ImagePositionPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue"):
            assert again.get(name) == ds.get(name)


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never by way of a proxy that the environment may name."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
