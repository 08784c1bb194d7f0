"""Devices: `cuda` may be missing, and says so; any other that is absent is an error."""

import pytest
import torch

from ctsr.errors import UsageError
from ctsr.infer.engine import pick_device
from tests.made.listener import Listener


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_warns_and_computes_on_the_cpu() -> None:
    listener = Listener()
    assert pick_device("cuda", progress=listener) == torch.device("cpu")
    (note,) = listener.notes
    assert note.startswith("warning: `device` cuda: no GPU is available here")


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has eight GPUs")
@pytest.mark.parametrize("name", ["cuda:7", "cuda:200"])
def test_a_gpu_that_is_named_by_its_number_must_be_there(name: str) -> None:
    listener = Listener()
    with pytest.raises(UsageError, match=rf"`device` {name}: this machine has \d CUDA devices"):
        pick_device(name, progress=listener)
    assert listener.notes == []


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has a Metal device")
def test_metal_must_be_there() -> None:
    with pytest.raises(UsageError, match="no Metal device"):
        pick_device("mps")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:-1", "CPU", "meta"])
def test_what_is_no_device_is_an_error_that_lists_the_choices(name: str) -> None:
    with pytest.raises(UsageError, match="choose auto, cpu, cuda, cuda:1 or mps"):
        pick_device(name)


def test_auto_takes_what_is_there_without_a_word() -> None:
    listener = Listener()
    device = pick_device("auto", progress=listener)
    assert listener.notes == []
    assert torch.zeros(1, device=device).device.type == device.type
