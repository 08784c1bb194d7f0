import socket
import ssl
import struct
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import Dataset, dcmread

from ctsr.errors import CtsrError
from ctsr.node import NodeOptions
from ctsr.node.receiver import CANNOT_UNDERSTAND, MISMATCH, OUT_OF_RESOURCES, SUCCESS, _check_inflated
from tests.dicom.syntaxes import SYNTAXES, transcoded
from tests.needs import needs_program
from tests.node.conftest import Listen, associate, ct_slices, store


def test_images_of_every_transfer_syntax_are_kept_byte_for_byte(listen: Listen) -> None:
    sent = {
        name: transcoded(ct_slices(1, series=f"1.2.3.{i}")[0], uid) for i, (name, uid) in enumerate(SYNTAXES.items())
    }
    with listen() as node:
        for name, dataset in sent.items():
            assert store(node.port, [dataset], syntaxes=(SYNTAXES[name],)) == [SUCCESS], name
        (job,) = node.queue.jobs()
        kept = {ds.SOPInstanceUID: ds for ds in map(dcmread, job.originals.iterdir())}
    assert len(kept) == len(SYNTAXES)
    for name, dataset in sent.items():
        again = kept[dataset.SOPInstanceUID]
        assert again.file_meta.TransferSyntaxUID == SYNTAXES[name]
        assert again.PixelData == dataset.PixelData


def test_two_images_that_share_a_uid_are_told_in_the_log(listen: Listen) -> None:
    (one,), (other,) = (ct_slices(1, size=size) for size in (16, 24))
    with listen() as node:
        assert store(node.port, [one, one, other]) == [SUCCESS] * 3
        assert [line["event"] for line in node.log.lines if "job" in line] == ["stored", "known", "replaced"]


def test_many_associations_at_once_lose_nothing(listen: Listen) -> None:
    made = [ct_slices(1, series=f"1.2.3.{i}", size=16) for i in range(12)]
    with listen() as node:
        with ThreadPoolExecutor(len(made)) as threads:
            statuses = list(threads.map(lambda datasets: store(node.port, datasets), made))
        assert statuses == [[SUCCESS]] * len(made)
        assert node.num_images() == len(made)


def test_associations_beyond_the_limit_are_rejected_and_may_come_again(listen: Listen) -> None:
    with listen(max_associations=1) as node:
        first = associate(node.port)
        assert associate(node.port).is_rejected
        first.release()
        deadline = time.monotonic() + 10
        while not (again := associate(node.port)).is_established:
            assert time.monotonic() < deadline
        again.release()


def test_callers_are_known_by_title_and_know_the_title_of_the_node(listen: Listen) -> None:
    with listen(allow=("ROUTER",)) as node:
        assert associate(node.port, calling="STRANGER").is_rejected
        assert associate(node.port, called="OTHER").is_rejected
        association = associate(node.port)
        assert association.send_c_echo().Status == SUCCESS
        association.release()
        assert [line["caller"] for line in node.log["rejected"]] == ["STRANGER", "ROUTER"]


def test_an_open_association_holds_its_study_back(listen: Listen) -> None:
    with listen() as node:
        association = associate(node.port)
        assert association.send_c_store(ct_slices(1)[0]).Status == SUCCESS
        (job,) = node.queue.jobs()
        assert node.receiver.held_jobs() == {job.id}
        association.release()
        deadline = time.monotonic() + 10
        while node.receiver.held_jobs():
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_full_disk_is_said_and_keeps_nothing(listen: Listen) -> None:
    with listen(min_free=1e9) as node:
        assert store(node.port, ct_slices(1)) == [OUT_OF_RESOURCES]
        assert node.num_images() == 0


def test_an_image_that_found_no_room_is_expected_until_it_comes(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = ct_slices(1)
    with listen(patience=60.0) as node:
        with monkeypatch.context() as patch:
            patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=-1))
            assert store(node.port, [image]) == [OUT_OF_RESOURCES]
        assert node.receiver.expected_studies() == {(image.StudyInstanceUID, "ROUTER")}
        assert store(node.port, [image]) == [SUCCESS]
        assert node.receiver.expected_studies() == set()


def test_an_image_that_found_no_room_is_not_expected_without_end(listen: Listen) -> None:
    with listen(min_free=1e9, patience=0.0) as node:
        assert store(node.port, ct_slices(1)) == [OUT_OF_RESOURCES]
        assert node.receiver.expected_studies() == set()


def test_an_image_without_identity_or_with_another_is_refused(listen: Listen) -> None:
    (nameless,) = ct_slices(1)
    del nameless.StudyInstanceUID
    with listen() as node:
        assert store(node.port, [nameless]) == [CANNOT_UNDERSTAND]
        association = associate(node.port)
        # The request takes its UID from the data set: turned round on the way.
        (dataset,) = ct_slices(1)
        encoded = association.dimse.send_msg

        def renamed(message: object, context_id: int) -> None:
            message.AffectedSOPInstanceUID = "1.2.99"  # type: ignore[attr-defined]
            encoded(message, context_id)

        association.dimse.send_msg = renamed
        assert association.send_c_store(dataset).Status == MISMATCH
        association.release()
        assert node.num_images() == 0


@pytest.mark.parametrize(
    "hostile",
    [
        struct.pack(">BBL", 0x04, 0, 0xFFFFFFFF) + bytes(1000),
        struct.pack(">BBL", 0x04, 0, 10) + bytes(10),
        struct.pack(">BBL", 0x01, 0, 68) + bytes(68),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["four GiB", "data before a request", "empty request", "HTTP"],
)
def test_a_hostile_pdu_ends_its_own_connection_only(listen: Listen, hostile: bytes) -> None:
    with listen() as node, socket.create_connection(("127.0.0.1", node.port), timeout=10) as caller:
        caller.sendall(hostile)
        assert store(node.port, ct_slices(1)) == [SUCCESS]


def test_results_of_ctsr_that_an_archive_routes_back_are_not_upscaled_again(listen: Listen) -> None:
    (dataset,) = ct_slices(1)
    dataset.ContributingEquipmentSequence = [Dataset()]
    dataset.ContributingEquipmentSequence[0].Manufacturer = "ctsr"
    with listen() as node:
        assert store(node.port, [dataset]) == [SUCCESS]
        assert node.num_images() == 0
        assert len(node.log["ignored"]) == 1


def test_an_image_above_the_limit_is_cut_off(listen: Listen) -> None:
    with listen(max_instance=0.001) as node:
        large = ct_slices(1, size=1600)  # 5 MB, and 4 MB are read before a message counts as too long
        association = associate(node.port)
        assert "Status" not in association.send_c_store(large[0])
        assert node.num_images() == 0


def test_an_image_that_inflates_beyond_the_limit_is_refused() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    stream = deflater.compress(bytes(5_000_000)) + deflater.flush()
    meta = b"\x02\x00\x00\x00UL\x04\x00" + (0).to_bytes(4, "little")
    with pytest.raises(CtsrError, match="too large once inflated"):
        _check_inflated(bytes(128) + b"DICM" + meta + stream, 1_000_000)
    _check_inflated(bytes(128) + b"DICM" + meta + stream, 6_000_000)


def test_a_port_that_is_taken_is_one_line(listen: Listen, tmp_path: Path) -> None:
    with listen() as node, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        from ctsr.node.receiver import Receiver

        taken = NodeOptions(port=other.getsockname()[1], queue=tmp_path)
        with pytest.raises(CtsrError, match="cannot listen"):
            Receiver(node.queue, taken, node.log.write).start()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signed itself, and its key."""
    openssl = needs_program("openssl", "openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key


def test_over_tls_callers_show_a_certificate_and_a_silent_one_holds_up_nobody(
    listen: Listen, certificates: tuple[Path, Path]
) -> None:
    cert, key = certificates
    options = NodeOptions(tls_cert=cert, tls_key=key, tls_ca=cert)
    with listen(tls_cert=cert, tls_key=key, tls_ca=cert) as node:
        with socket.create_connection(("127.0.0.1", node.port)):  # says nothing
            assert store(node.port, ct_slices(1), tls=(options.client_tls(), "127.0.0.1")) == [SUCCESS]
        nobody = ssl.create_default_context(cafile=str(cert))
        assert not associate(node.port, tls=(nobody, "127.0.0.1")).is_established
        assert not associate(node.port).is_established
        assert node.num_images() == 1
