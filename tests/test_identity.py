"""Identity: who an exam is of is told by study and PatientID, and only by what proves it."""

import pytest

from ctsr.hashing import find_people, header_identities, is_same_person, proven


def person(study: str, patient_id: str, birth: str = "", sex: str = "") -> tuple[str, ...]:
    return header_identities(study, patient_id, "", birth, sex)


@pytest.mark.parametrize("spelled", ["MRN-4711", " mrn-4711 ", "00MRN-4711"])
def test_one_patient_id_is_one_person_however_it_is_typed(spelled: str) -> None:
    people = find_people({"exam2019": person("1.1", "MRN-4711"), "exam2021": person("1.2", spelled)})
    assert people.groups == (("exam2019", "exam2021"),)


REMOVED = ("NO ID", "REMOVED", "Deidentified", "DE-IDENTIFIED", "empty", "deleted", "99999999", "1234567890")


@pytest.mark.parametrize(
    "generic",
    ["", "0", "000000", "ANON", "anonymous", "ANON_12", "test", "Test01", "-", "unknown", "12", "patient", *REMOVED],
)
def test_a_generic_patient_id_proves_nothing_and_is_mentioned(generic: str) -> None:
    people = find_people({"a": person("1.1", generic), "b": person("1.2", generic)})
    assert people.groups == ()
    assert "a, b have one PatientID" in people.notes[0]


@pytest.mark.parametrize(("births", "sexes"), [(("19500101", "19600101"), ("", "")), (("", ""), ("M", "F"))])
def test_people_whose_birth_dates_or_sexes_differ_are_different(
    births: tuple[str, str], sexes: tuple[str, str]
) -> None:
    exams = {name: person(f"1.{name}", "MRN-4711", births[i], sexes[i]) for i, name in enumerate("ab")}
    people = find_people(exams)
    assert people.groups == ()
    assert "differ" in people.notes[0]
    assert not is_same_person(exams["a"], exams["b"])


def test_a_shared_study_always_counts() -> None:
    exams = {"a": person("1.1", "anon", "19500101"), "b": person("1.1", "0", "19600101")}
    assert find_people(exams).groups == (("a", "b"),)
    assert is_same_person(exams["a"], exams["b"])


def test_a_short_id_counts_with_a_birth_date() -> None:
    exams = {"a": person("1.1", "12", "19500101"), "b": person("1.2", "12", "19500101")}
    assert find_people(exams).groups == (("a", "b"),)


def test_people_are_joined_through_a_third_exam() -> None:
    exams = {"a": person("1.1", "MRN-4711"), "b": (*person("1.1", "anon"), *person("1.2", "")), "c": person("1.2", "0")}
    assert find_people(exams).groups == (("a", "b", "c"),)


def test_what_a_model_remembers_is_hashes_of_what_proves_something() -> None:
    kept = proven([*person("1.2.840.1", "MRN-4711", "19500101", "F"), *person("", "anon")])
    assert len(kept) == 2
    assert not any(word in "".join(kept) for word in ("4711", "840", "1950", "anon"))


def test_without_headers_nobody_is_the_same() -> None:
    assert not is_same_person((), ())
    assert find_people({"a": (), "b": ()}).groups == ()
