"""`python -m recipes.slices CT > recipes/slices.csv`: the images that the bundled models are trained on, one a line.

For each image of the train and validation parts of `recipes/split.json` that training takes: the collection it is from
and that collection's DOI, its SOPInstanceUID, and the SHA-256 of the file, so that anyone can gather the same. CT holds
the roots of `recipes.train.ROOTS`.
"""

import csv
import hashlib
import sys
from pathlib import Path

import pydicom
from pydicom.tag import Tag
from recipes.train import ROOTS

from ctsr.data.datasets import open_roots
from ctsr.data.split import read_split

SPLIT = Path(__file__).with_name("split.json")
PARTS = ("train", "val")
ARCHIVE = Tag(0x0013, 0x1010)
"""Private element in which the Cancer Imaging Archive writes the name of the collection."""
ELSEWHERE = {"DTU-Aquilion": "Technical University of Denmark"}
"""Patients whose images are not from that archive, by the collection they are from."""
COLLECTIONS = {
    "4D-Lung": "10.7937/K9/TCIA.2016.ELN8YGLE",
    "ACRIN-FLT-Breast": "10.7937/K9/TCIA.2017.ol20zmxg",
    "ACRIN-NSCLC-FDG-PET": "10.7937/tcia.2019.30ilqfcl",
    "C4KC-KiTS": "10.7937/TCIA.2019.IX49E8NX",
    "CMB-CRC": "10.7937/DJG7-GZ87",
    "COVID-19-NY-SBU": "10.7937/TCIA.BBAG-2923",
    "CPTAC-LUAD": "10.7937/K9/TCIA.2018.PAT12TBS",
    "CPTAC-PDA": "10.7937/K9/TCIA.2018.SC20FO18",
    "HNSCC-3DCT-RT": "10.7937/K9/TCIA.2018.13upr2xf",
    "Head-Neck Cetuximab": "10.7937/K9/TCIA.2015.7AKGJUPZ",
    "LIDC-IDRI": "10.7937/K9/TCIA.2015.LO9QL9SX",
    "Lung-Fused-CT-Pathology": "10.7937/K9/TCIA.2018.SMT36LPN",
    "LungCT-Diagnosis": "10.7937/K9/TCIA.2015.A6V7JIWX",
    "RIDER Pilot": "",
    "StageII-Colorectal-CT": "10.7937/p5k5-tg43",
    "TCGA-LUAD": "10.7937/K9/TCIA.2016.JGNIHEP5",
    "TCGA-LUSC": "10.7937/K9/TCIA.2016.TYGKKFMQ",
    "TCGA-STAD": "10.7937/K9/TCIA.2016.GDHL9KIM",
    "Technical University of Denmark": "",
}
"""By the name in the header; empty where none was found."""
COLUMNS = ("part", "patient", "collection", "doi", "sop_instance_uid", "sha256")


def rows(ct: Path) -> list[tuple[str, ...]]:
    """One row an image, by part, patient and SOPInstanceUID."""
    split = read_split(SPLIT)
    patients = {one.patient_id: one for one in open_roots([ct / root for root in ROOTS]).usable}
    found: list[tuple[str, ...]] = []
    for part in PARTS:
        for name in split.part(part):
            headers = (header for series in patients[name].series for header in series.slices)
            found += [(part, name, *_row(name, header.path)) for header in headers]
    return sorted(found, key=lambda row: (PARTS.index(row[0]), *row[1:]))


def _row(patient: str, file: Path) -> tuple[str, str, str, str]:
    header = pydicom.dcmread(file, stop_before_pixels=True)
    value = header[ARCHIVE].value if ARCHIVE in header else ELSEWHERE[patient]
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
