"""`python -m recipes.identities CT`: hashes of who the bundled models were trained on, into the package.

Models whose files were written before a checkpoint held them take them from there. CT holds the roots of
`recipes.train.ROOTS`.
"""

import sys
from pathlib import Path

from recipes.train import ROOTS

from ctsr.checkpoint.model_lookup import IDENTITIES
from ctsr.data.datasets import open_roots
from ctsr.data.split import read_split
from ctsr.files import write_json
from ctsr.hashing import proven

SPLIT = Path(__file__).with_name("split.json")


def training_identities(ct: Path) -> tuple[str, ...]:
    """Hashes of the studies and patients of the training part."""
    train = read_split(SPLIT).part("train")
    patients = open_roots([ct / root for root in ROOTS]).usable
    chosen = [patient.identities for patient in patients if patient.patient_id in train]
    return proven(identity for identities in chosen for identity in identities)


if __name__ == "__main__":
    write_json(IDENTITIES, training_identities(Path(sys.argv[1])))
