"""`python recipes/slices.py CT > recipes/slices.csv`: the images that the bundled models are trained on, one a line.

For each image of the train and validation parts of `recipes/split.json` that training takes: the collection it is from
and that collection's DOI, its SOPInstanceUID, and the SHA-256 of the file, so that anyone can gather the same. CT holds
the roots `patients` and `singles`.
"""

import csv
import hashlib
import sys
from pathlib import Path

import pydicom
from pydicom.tag import Tag

from ctsr.data.datasets import open_roots
from ctsr.data.split import read_split

SPLIT = Path(__file__).with_name("split.json")
PARTS = ("train", "val")
ARCHIVE = Tag(0x0013, 0x1010)
"""Private element in which the Cancer Imaging Archive writes the name of the collection."""
COLLECTIONS = {
    "ACRIN-FLT-Breast": "10.7937/K9/TCIA.2017.ol20zmxg",
    "C4KC-KiTS": "10.7937/TCIA.2019.IX49E8NX",
    "CMB-CRC": "10.7937/DJG7-GZ87",
    "COVID-19-NY-SBU": "10.7937/TCIA.BBAG-2923",
    "CPTAC-PDA": "10.7937/K9/TCIA.2018.SC20FO18",
    "LIDC-IDRI": "10.7937/K9/TCIA.2015.LO9QL9SX",
    "Lung-Fused-CT-Pathology": "10.7937/K9/TCIA.2018.SMT36LPN",
    "LungCT-Diagnosis": "10.7937/K9/TCIA.2015.A6V7JIWX",
    "RIDER Pilot": "",
    "StageII-Colorectal-CT": "10.7937/p5k5-tg43",
    "TCGA-LUAD": "10.7937/K9/TCIA.2016.JGNIHEP5",
    "TCGA-LUSC": "10.7937/K9/TCIA.2016.TYGKKFMQ",
}
"""By the name in the header; for RIDER Pilot none was found."""
COLUMNS = ("part", "patient", "collection", "doi", "sop_instance_uid", "sha256")


def rows(ct: Path) -> list[tuple[str, ...]]:
    """One row an image, by part, patient and SOPInstanceUID."""
    split = read_split(SPLIT)
    patients = {one.patient_id: one for one in open_roots([ct / "patients", ct / "singles"]).usable}
    found: list[tuple[str, ...]] = []
    for part in PARTS:
        for name in split.part(part):
            headers = (header for series in patients[name].series for header in series.slices)
            found += [(part, name, *_row(header.path)) for header in headers]
    return sorted(found, key=lambda row: (PARTS.index(row[0]), *row[1:]))


def _row(file: Path) -> tuple[str, str, str, str]:
    header = pydicom.dcmread(file, stop_before_pixels=True)
    value = header[ARCHIVE].value
    collection = (value.decode() if isinstance(value, bytes) else str(value)).rstrip("\0 ")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return collection, COLLECTIONS[collection], str(header.SOPInstanceUID), digest


def main() -> None:
    """Write the table to standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
