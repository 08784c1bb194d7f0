"""Identity: who an exam is of is told by study and PatientID, and only by what proves it."""

import pytest

from ctsr.hashing import count_people, find_people, header_identities, is_same_person, proven


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


FIRST, SECOND = person("1.1", "MRN-4711", "19700101", "F"), person("1.2", "MRN-4711", "19700101", "F")


def test_a_third_exam_that_contradicts_does_not_part_two_that_agree() -> None:
    third = person("1.3", "MRN-4711", "19800101", "F")
    people = find_people({"exam2019": FIRST, "exam2021": SECOND, "exam2023": third})
    assert people.groups == (("exam2019", "exam2021"),)
    assert people.notes == (
        "exam2019 (with exam2021), exam2023 have one PatientID, but their birth dates or sexes differ: they are taken "
        "for different patients",
    )


def test_nor_does_one_whose_short_id_proves_nothing() -> None:
    exams = {"a": person("1.1", "12", "19500101"), "b": person("1.2", "12", "19500101"), "c": person("1.3", "12")}
    people = find_people(exams)
    assert people.groups == (("a", "b"),)
    assert people.notes[0].startswith("a (with b), c have one PatientID, but it is empty or one that many")


def test_two_pairs_under_one_id_are_two_people() -> None:
    exams = {name: person(f"1.{name}", "MRN-4711", f"19{name[0]}00101") for name in ("7a", "7b", "8a", "8b")}
    assert find_people(exams).groups == (("7a", "7b"), ("8a", "8b"))


def test_where_nobody_can_tell_whose_an_exam_is_all_are_kept_together() -> None:
    exams = {"a": FIRST, "b": person("1.2", "MRN-4711", "19800101", "F"), "c": person("1.3", "MRN-4711")}
    assert find_people(exams).groups == (("a", "b", "c"),)
    assert find_people(exams).notes == ()


@pytest.mark.parametrize("study", ["1.1", "1.7"])
def test_nobody_is_called_different_who_shares_a_study(study: str) -> None:
    """With another folder itself, or with a third one that shares a study with both."""
    exams = {"a": person("1.1", "MRN-4711", "19500101"), "b": person(study, "MRN-4711", "19600101")}
    if study != "1.1":
        exams["c"] = (*person("1.1", "anon"), *person(study, "anon"))
    people = find_people(exams)
    assert people.groups == (tuple(exams),)
    assert people.notes == ()


def issued(study: str, issuer: str, birth: str = "19700101") -> tuple[str, ...]:
    return header_identities(study, "MRN0012345", issuer, birth, "F")


def test_an_id_without_an_issuer_is_that_of_any_and_issuers_are_compared_without_case() -> None:
    exams = {"exam2019": issued("1.1", ""), "exam2021": issued("1.2", "HOSP"), "exam2022": issued("1.3", " hosp")}
    assert find_people(exams).groups == (("exam2019", "exam2021", "exam2022"),)
    assert find_people(exams).notes == ()
    pairs = [("exam2019", "exam2021"), ("exam2021", "exam2019"), ("exam2021", "exam2022")]
    assert all(is_same_person(exams[some], exams[other]) for some, other in pairs)


def test_an_id_of_another_issuer_is_another_id() -> None:
    exams = {"a": issued("1.1", "HOSP"), "b": issued("1.2", "CLINIC")}
    assert find_people(exams).groups == find_people(exams).notes == ()
    assert not is_same_person(exams["a"], exams["b"])


def test_a_contradiction_within_an_issuer_is_noted_once() -> None:
    exams = {"a": issued("1.1", "HOSP"), "b": issued("1.2", "HOSP", "19800101"), "c": issued("1.3", "")}
    people = find_people(exams)
    assert people.groups == (("a", "c"),)
    assert [note.split(" have ")[0] for note in people.notes] == ["a (with c), b"]


@pytest.mark.parametrize(
    ("birth", "sex"), [("1970.01.01", "F"), ("19700101", "f"), ("1970-01-01", " F "), (" 1970/01/01", "f ")]
)
def test_birth_dates_and_sexes_are_the_same_however_they_are_written(birth: str, sex: str) -> None:
    exams = {"a": FIRST, "b": person("1.2", "MRN-4711", birth, sex)}
    assert find_people(exams).groups == (("a", "b"),)
    assert is_same_person(exams["a"], exams["b"])


def test_what_is_kept_of_headers_stays_what_it_is() -> None:
    """Checkpoints and bundled models hold these; an issuer adds an identity and changes none."""
    study = "study:cd07662effc15bf068e1"
    assert person("1.1", "MRN-4711", "19700101", "F") == (study, "patient:59f545a5ae2a45d77b7d:e414/01c6")
    assert header_identities("1.1", "MRN-4711", "HOSP", "19700101", "F")[:2] == (
        study,
        "patient:fc68d837a81715e238ba:e414/01c6",
    )
    assert person("1.1", "anon", "", "M") == (study, "unsure:d5877c3d01eb910e58de:/6599")


def test_people_are_counted_by_ids_that_prove_something() -> None:
    known = [person(f"1.{k}", f"MRN001234{k}", f"197{k}0101") for k in range(4)]
    assert count_people(known) == 4
    again = person("1.9", "mrn0012341", "19990101")
    unknown = [person("1.10", "anon"), person("1.11", ""), person("1.12", "12"), ()]
    assert count_people([*known, again, *unknown]) == 4
    assert count_people(unknown) == 0
    assert count_people([person("1.1", "MRN-4711"), person("1.1", "MRN-4712")]) == 1, "one study is of one person"
    assert count_people([issued("1.1", ""), issued("1.2", "HOSP"), issued("1.3", "hosp")]) == 1
