from ctsr.reporting import safe_name


def test_a_name_loses_what_no_file_can_be_called() -> None:
    assert safe_name("best [v2]: α*?") == "best__v2___α__"
