"""`import ctsr` costs nothing, and offers every name of the API whatever was imported before."""

import inspect
import subprocess
import sys

import pytest

import ctsr
from ctsr import CallablePackage

PROBE = """
import sys, time
started = time.process_time()
import ctsr
seconds = time.process_time() - started
assert seconds < 0.1, seconds
assert "numpy" not in sys.modules and "torch" not in sys.modules
ctsr.Volume, ctsr.scan, ctsr.example_volume
assert "torch" not in sys.modules
import ctsr.upscale
assert ctsr.upscale.UpscaleOptions().strength == "standard"
assert callable(ctsr.upscale) and callable(ctsr.preprocess)
assert "torch" not in sys.modules
print(len(dir(ctsr)))
"""


def test_import_ctsr_imports_neither_numpy_nor_torch() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(ctsr.__all__) + 1


@pytest.mark.parametrize("name", ctsr.__all__)
def test_every_name_of_the_api_is_documented(name: str) -> None:
    documented = inspect.unwrap(getattr(ctsr, name))
    text = inspect.getdoc(documented) or ""
    assert text.splitlines()[0].endswith("."), "a first line of its own"
    if inspect.isfunction(documented):
        assert "Examples:" in text
        assert "Raises:" in text
        for parameter in inspect.signature(documented).parameters:
            assert f"    {parameter}: " in text, f"{name} does not describe {parameter}"


def test_a_callable_package_has_the_signature_of_its_function() -> None:
    parameters = inspect.signature(ctsr.upscale).parameters
    assert list(parameters)[:3] == ["source", "out", "spacing"]
    package = sys.modules["ctsr.upscale"]
    assert isinstance(package, CallablePackage)
    assert package.getdoc().startswith("Super-resolve CT in plane")


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="upscail"):
        getattr(ctsr, "upscail")  # noqa: B009 - a type checker would not let it pass otherwise
