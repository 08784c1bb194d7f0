import stat
import zipfile
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.fileset import FileSet

import ctsr.files
from ctsr.cli.main import main
from ctsr.errors import ReadError
from ctsr.files import unpacked
from tests.made.ct import slices, write


def zipped(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def exams(tmp_path: Path) -> Path:
    """A zip archive of two patients with three slices each."""
    content = {}
    for name, root in (("ann", "1.2.3.4"), ("bob", "1.2.3.5")):
        made = slices(3, series=root, PatientID=name, StudyInstanceUID=f"{root}.1", StudyTime="101112", StudyID="1")
        for file in sorted(write(tmp_path / "exams" / name, made).iterdir()):
            content[f"exams/{name}/{file.name}"] = file.read_bytes()
    return zipped(tmp_path / "exams.zip", content)


def test_the_content_is_there_while_it_is_read_and_for_nobody_else(exams: Path) -> None:
    with unpacked(exams) as folder:
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) == 6
        assert folder.name == "exams"
        assert {path.name for path in folder.iterdir()} == {"ann", "bob"}  # not the folder around them
        assert stat.S_IMODE(folder.parent.parent.stat().st_mode) == 0o700
        with zipfile.ZipFile(exams) as archive:
            assert all(path.read_bytes() == archive.read(path.relative_to(folder.parent).as_posix()) for path in files)
    assert not folder.parent.parent.exists()


def test_it_is_removed_when_reading_fails(exams: Path) -> None:
    with pytest.raises(RuntimeError), unpacked(exams) as folder:
        raise RuntimeError
    assert not folder.parent.parent.exists()


def test_any_other_path_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "series.zip"  # a folder of that name
    folder.mkdir()
    with unpacked(folder) as same:
        assert same == folder


@pytest.mark.parametrize("name", ["../out.dcm", "/etc/out.dcm", "a/../../out.dcm", "C:/out.dcm", "a\\..\\..\\out.dcm"])
def test_a_member_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "bad.zip", {"a/1.dcm": b"1", name: b"2"})
    with pytest.raises(ReadError, match="outside of the folder"), unpacked(archive):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["bad.zip"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("a/1.dcm")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(ReadError, match="a link or a device"), unpacked(tmp_path / "link.zip"):
        pass


def test_a_bomb_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctsr.files, "FREE_OF_DOUBT_BYTES", 1 << 20)
    bomb = zipped(tmp_path / "bomb.zip", {f"{i}.dcm": bytes(1 << 20) for i in range(4)})
    with pytest.raises(ReadError, match="as a zip bomb does"), unpacked(bomb):
        pass


def test_a_member_that_lies_about_its_size_is_cut_off(tmp_path: Path) -> None:
    path = zipped(tmp_path / "lies.zip", {"1.dcm": bytes(1 << 20)})
    content = path.read_bytes()
    # The uncompressed size in the local header and in the central directory.
    true, told = (1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")
    assert content.count(true) == 2
    path.write_bytes(content.replace(true, told))
    with pytest.raises(ReadError, match=r"lies\.zip.*CRC"), unpacked(path):
        pass


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "twice.zip", {"a/1.dcm": b"1", "A/1.dcm": b"2"})
    with pytest.raises(ReadError, match="occurs twice"), unpacked(archive):
        pass


def test_an_encrypted_archive_is_refused_by_name(tmp_path: Path) -> None:
    path = zipped(tmp_path / "secret.zip", {"1.dcm": b"1"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # local header: general purpose flags
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ReadError, match="encrypted; unpack it with its password"), unpacked(path):
        pass


@pytest.mark.parametrize("damage", ["cut", "no zip", "flipped"])
def test_a_damaged_archive_is_one_line(
    exams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    content = bytearray(exams.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "no zip":
        content = bytearray(b"hello")
    else:
        content[200] ^= 0xFF
    bad = tmp_path / "bad.zip"
    bad.write_bytes(content)
    assert main(["scan", str(bad)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(bad) in error
    assert "unpack it by hand" in error


def test_scan_and_preprocess_read_an_archive_as_its_folder(
    exams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def results(out: str) -> dict[str, bytes]:
        files = [path for path in (tmp_path / out).glob("*pp/**/*") if path.is_file()]
        return {path.relative_to(tmp_path / out).as_posix(): dcmread(path).PixelData for path in files}

    assert main(["scan", str(exams)]) == 0
    assert "ann" in (printed := capsys.readouterr().out)
    assert "bob" in printed
    assert main(["preprocess", "--root", str(tmp_path / "exams"), "--out_dir", str(tmp_path / "from_folder")]) == 0
    assert main(["preprocess", "--root", str(exams), "--out_dir", str(tmp_path / "from_zip")]) == 0
    assert len(results("from_folder")) == 6
    assert results("from_zip") == results("from_folder")
    capsys.readouterr()
    assert main(["preprocess", "--root", str(exams), "--out_dir", str(tmp_path / "from_zip")]) == 0
    assert "0 slices written, 6 kept from before" in capsys.readouterr().out


def test_upscale_makes_dicom_of_an_archive(exams: Path, tmp_path: Path) -> None:
    assert main(["upscale", str(exams), str(tmp_path / "out"), "--engine", "torch"]) == 0
    made = [dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    assert len(made) == 6
    assert {(ds.Rows, ds.Columns) for ds in made} == {(128, 96)}


def test_media_with_a_dicomdir_are_read(exams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    media = FileSet()
    for path in sorted((tmp_path / "exams" / "ann").iterdir()):
        media.add(path)
    media.write(tmp_path / "cd")
    assert (tmp_path / "cd" / "DICOMDIR").is_file()
    assert main(["scan", str(tmp_path / "cd")]) == 0
    assert "3 slices" in capsys.readouterr().out
    assert main(["upscale", str(tmp_path / "cd"), str(tmp_path / "out"), "--engine", "torch"]) == 0
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 3
