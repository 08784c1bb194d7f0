"""Hashes of names: digests, seeds and UIDs that are the same everywhere; and whose exam it is, by its headers.

The same parts give the same value on every machine and in every process, other parts give other values. A hash is a
pseudonym, not anonymity: who has a list of PatientIDs can hash them all and compare.
"""

import hashlib
import re
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, combinations, pairwise

import numpy as np
import numpy.typing as npt


def digest(*parts: str | int, size: int = 16) -> bytes:
    """Hash the parts into `size` bytes that depend on every part, its type and its place.

    BLAKE2b over the length-prefixed parts, so that ("a", "bc") and ("ab", "c") differ.
    """
    hasher = hashlib.blake2b(digest_size=size)
    for part in parts:
        word = f"{type(part).__name__}:{part}".encode()
        hasher.update(len(word).to_bytes(4, "big") + word)
    return hasher.digest()


def seed_from(*parts: str | int, bits: int = 63) -> int:
    """Make a seed of at most `bits` bits that depends on every part, its type and its place."""
    return int.from_bytes(digest(*parts, size=8), "big") >> (64 - bits)


def rng_from(*parts: str | int) -> np.random.Generator:
    """Make a generator seeded with `seed_from` of the parts."""
    return np.random.default_rng(seed_from(*parts))


def derived_uid(*parts: str) -> str:
    """Make the UID that belongs to `parts`, in this order: ``2.25.`` and an integer of at most 39 digits.

    DICOM's PS3.5 B.2 lets anyone make a UID from a UUID. This one has the layout of version 5 (name-based); its bits
    come from `digest`, which keeps the parts apart.
    """
    return f"2.25.{uuid.UUID(bytes=digest(*parts), version=5).int}"


STUDY, PATIENT, UNSURE, VOXELS = "study", "patient", "unsure", "voxels"
"""Kinds of identity. UNSURE is a PatientID that many people may share."""
TOLD_HU = (-900, 1500)
"""HU by which voxels are known: below is air, which programs clip and fill, above is metal, which they clip."""
FEWEST_VALUES = 20
"""Different HU of a slice that another one does not have by chance."""

GENERIC = re.compile(
    r"[\W_0]*|(\w)\1{4,}|0*12345(6(7(8(90?)?)?)?)?"
    r"|(anon|test|unknown|none|null|nil|patient|subject|phantom|demo|dummy|sample|no\W?name|no\W?id|na$|qa$|xx"
    r"|removed|deleted|empty|pseudo|confidential|de\W?identified|de\W?personali[sz]ed|redacted|hidden|study$)"
    r"[\W_a-z]*\d*",
    re.IGNORECASE,
)
"""PatientIDs that anonymisers, phantoms and operators in haste write for everyone."""
SHORTEST_ID = 4
"""Characters of a PatientID that proves something by itself: 12 is a patient of many a hospital."""
DATE_PARTS = re.compile(r"^(\d{4})[.\-/](\d{2})[.\-/](\d{2})$")
"""A date with its parts apart, as ACR-NEMA wrote it."""
ISSUER = slice(2, 3)
"""Where the traits of an identity tell the issuer; before it are birth date and sex."""


PERSON = ("PatientID", "PatientBirthDate", "PatientSex")
"""What `person_traits` tells, in its order."""

NAME = "name"
"""Prefix of the hash that replaces the name of a patient's folder in files that are passed on."""


def pseudonym(name: str) -> str:
    """Make the hash that replaces a patient's name: ``name:HASH``; a hash stays as it is."""
    return name if name.startswith(f"{NAME}:") else f"{NAME}:{digest('name', name, size=8).hex()}"


def with_names(split: Mapping[str, Iterable[str]], present: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Replace hashes in a model's split by the names they are of, as far as those patients are present."""
    names = {pseudonym(name): name for name in present}
    named: dict[str, tuple[str, ...]] = {}
    for part, patients in split.items():
        named[part] = tuple(names.get(patient, patient) for patient in patients)
    return named


@lru_cache(maxsize=4096)
def header_identities(
    study_uid: str, patient_id: str, issuer: str = "", birth_date: str = "", sex: str = ""
) -> tuple[str, ...]:
    """Make the identities of an image: ``study:HASH``, and ``patient:HASH:TRAITS`` or ``unsure:HASH:TRAITS``.

    Args:
        study_uid: StudyInstanceUID; empty where there is none.
        patient_id: PatientID.
        issuer: IssuerOfPatientID. A second identity leaves it out of the id and keeps it as 16 bits of a hash, without
            case and blanks around it: an exam without an issuer may be of the same person.
        birth_date: PatientBirthDate, with or without dots, kept as 16 bits of a hash: enough to see that two differ.
        sex: PatientSex, likewise, in either case.
    """
    found = [f"{STUDY}:{digest('study', study_uid, size=10).hex()}"] if study_uid else []
    # Blanks, case and leading zeros change when an id is typed again or passes through another system.
    bare = " ".join(patient_id.upper().split()).lstrip("0 ")
    is_sure = not GENERIC.fullmatch(bare) and (len(bare) >= SHORTEST_ID or bool(birth_date))
    kind = PATIENT if is_sure else UNSURE
    born = DATE_PARTS.sub(r"\1\2\3", birth_date.strip())
    traits = f"{_trait('b', born)}/{_trait('s', sex.strip().upper())}"
    # Identities are kept in checkpoints: this one stays what it was.
    found.append(f"{kind}:{digest('patient', bare, issuer, size=10).hex()}:{traits}")
    if is_sure and (issued := " ".join(issuer.split()).casefold()):
        found.append(f"{kind}:{digest('patient', bare, '', size=10).hex()}:{traits}/{_trait('i', issued)}")
    return tuple(found)


def person_traits(identities: Sequence[str]) -> tuple[str, ...]:
    """Hashes of PatientID, birth date and sex in the identities of an image; empty where there is none."""
    # The last one has no issuer, which part of the images of a series may lack.
    of_patient = next((identity for identity in reversed(identities) if identity.startswith((PATIENT, UNSURE))), "::/")
    _, name, traits = of_patient.split(":")
    born, sex, *_ = traits.split("/")
    return ("" if name == _nobody() else name), born, sex


@cache
def _nobody() -> str:
    """What an empty PatientID becomes."""
    return header_identities("", "")[0].split(":")[1]


def _trait(kind: str, value: str) -> str:
    return digest(kind, value, size=2).hex() if value else ""


def content_identity(size: int, *samples: bytes) -> str:
    """Make the identity of a file without study or patient, from its size in bytes and some of what it holds."""
    return f"{STUDY}:{digest('content', size, *(sample.hex() for sample in samples), size=10).hex()}"


def voxel_identity(num_slices: int, hu: npt.NDArray[np.float32], padding: npt.NDArray[np.bool_] | None) -> str:
    """Make the identity of a series by its middle slice, whatever format it is in: ``voxels:HASH``.

    It counts how many pixels have each HU, which is the same however a slice is turned.

    Args:
        num_slices: of the series.
        hu: (rows, columns) of the middle one.
        padding: pixels that do not count.

    Returns:
        Empty where there is too little to tell by.
    """
    low, high = TOLD_HU
    whole = np.rint(hu if padding is None else hu[~padding])
    counts = np.bincount(whole[(whole >= low) & (whole <= high)].astype(np.int64) - low, minlength=high - low + 1)
    if np.count_nonzero(counts) < FEWEST_VALUES:
        return ""
    told = counts.astype("<i4").tobytes().hex()
    return f"{VOXELS}:{digest('voxels', num_slices, *sorted(hu.shape), told, size=10).hex()}"


def stored_identity(identities: Sequence[str]) -> tuple[str, ...]:
    """That of a volume's file by what it inflates to, which is the same however it is compressed."""
    return tuple(identity for identity in identities if identity.startswith(STUDY))[-1:]


def proven(identities: Iterable[str]) -> tuple[str, ...]:
    """The identities that prove whose exam it is, sorted; a model stores those of its training exams."""
    return tuple(sorted({identity for identity in identities if not identity.startswith(UNSURE)}))


def is_same_person(some: Collection[str], others: Collection[str]) -> bool:
    """Whether two sets of identities share a study, or a PatientID without contradiction in birth, sex or issuer."""
    keys: dict[str, list[str]] = defaultdict(list)
    for identity in proven(others):
        keys[_name(identity)].append(identity)
    return any(not _contradict(identity, other) for identity in proven(some) for other in keys.get(_name(identity), ()))


@dataclass(frozen=True)
class People:
    """Which folders are one person."""

    groups: tuple[tuple[str, ...], ...] = ()
    """Patients (by folder name) that are one person, sorted; only groups of two and more."""
    notes: tuple[str, ...] = ()
    """A line for each PatientID that several people share, or folders without proof that they are one person."""

    @property
    def leaders(self) -> dict[str, str]:
        """The name that stands for all of a person's: the first of the group, for those in a group."""
        return {name: group[0] for group in self.groups for name in group}

    def first(self, names: Sequence[str], count: int | None) -> tuple[str, ...]:
        """Those of `names` that are of the first `count` people among them; all when None."""
        leaders = self.leaders
        people = [leaders.get(name, name) for name in names]
        wanted = list(dict.fromkeys(people))[:count]
        return tuple(name for name, person in zip(names, people, strict=True) if person in wanted)


def find_people(patients: Mapping[str, Collection[str]]) -> People:
    """Tell which of the patients are one person, from the identities of each.

    Whom any two exams join is one person: a third that contradicts both does not part them, and one that contradicts
    neither of two that contradict each other joins them, as nobody can tell which of them it belongs to.
    """
    holders: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for patient in sorted(patients):
        for identity in sorted(patients[patient]):
            holders[_name(identity)][identity].append(patient)
    leader = {patient: patient for patient in patients}
    for found in holders.values():
        sure = proven(found)
        for identity in sure:
            _join(leader, found[identity])
        for some, other in combinations(sure, 2):
            if not _contradict(some, other):
                _join(leader, [found[some][0], found[other][0]])
    apart = [
        (frozenset(chain.from_iterable(found.values())), why)
        for found in holders.values()
        if (why := _why_apart(found, leader))
    ]
    # An id with an issuer is there without it, too, and then of all who have the id.
    notes: set[str] = set()
    for told in apart:
        if not any(_is_part(told, other) for other in apart):
            notes.add(_note(*told, leader))
    groups: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(patients):
        groups[_leader(leader, patient)].append(patient)
    return People(tuple(tuple(group) for group in groups.values() if len(group) > 1), tuple(sorted(notes)))


def count_people(exams: Iterable[Collection[str]]) -> int:
    """How many people exams are of, by PatientIDs that prove something; those of one study are of one person."""
    bare: dict[str, set[str]] = {}
    named: list[str] = []
    for number, identities in enumerate(exams):
        # Without traits: one id is one person here, whatever else differs, and whatever the voxels say.
        told = (identity for identity in proven(identities) if not identity.startswith(VOXELS))
        bare[str(number)] = {":".join(identity.split(":")[:2]) for identity in told}
        if any(identity.startswith(PATIENT) for identity in identities):
            named.append(str(number))
    leaders = find_people(bare).leaders
    return len({leaders.get(name, name) for name in named})


def _why_apart(found: Mapping[str, Sequence[str]], leader: Mapping[str, str]) -> str:
    """Why those who hold identities of one PatientID are several people; empty where they are not, or by issuer."""
    if len({_leader(leader, patient) for patient in chain.from_iterable(found.values())}) < 2:
        return ""
    if len(proven(found)) < len(found):
        return "it is empty or one that many people may have"
    for some, other in combinations(found, 2):
        # Other issuers give other ids, which may look alike.
        is_one_id = not _contradict(some, other, ISSUER)
        if is_one_id and _leader(leader, found[some][0]) != _leader(leader, found[other][0]):
            return "their birth dates or sexes differ"
    return ""


def _is_part(told: tuple[frozenset[str], str], other: tuple[frozenset[str], str]) -> bool:
    return told[0] < other[0] and told[1] == other[1]


def _note(patients: Iterable[str], why: str, leader: Mapping[str, str]) -> str:
    parts: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(patients):
        parts[_leader(leader, patient)].append(patient)
    names = [_shown(part) for part in parts.values()]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{shown} have one PatientID, but {why}: they are taken for different patients"


def _shown(part: Sequence[str]) -> str:
    """Folders of one person."""
    if len(part) < 2:
        return part[0]
    return f"{part[0]} (with {part[1] if len(part) == 2 else f'{len(part) - 1} more'})"


def _name(identity: str) -> str:
    """An identity without kind and traits where it is a PatientID."""
    kind, name = identity.split(":")[:2]
    return name if kind in {PATIENT, UNSURE} else identity


def _contradict(some: str, other: str, traits: slice = slice(None)) -> bool:
    """Whether two identities of one PatientID have different birth dates, sexes or issuers, where both tell them."""
    ours, theirs = some.split(":")[2:], other.split(":")[2:]
    if not (ours and theirs):
        return False
    pairs = list(zip(ours[0].split("/"), theirs[0].split("/"), strict=False))
    return any(a != b for a, b in pairs[traits] if a and b)


def _leader(leader: Mapping[str, str], patient: str) -> str:
    while leader[patient] != patient:
        patient = leader[patient]
    return patient


def _join(leader: dict[str, str], patients: Sequence[str]) -> None:
    for some, other in pairwise(patients):
        first, second = sorted((_leader(leader, some), _leader(leader, other)))
        leader[second] = first
