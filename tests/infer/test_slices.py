"""Whole slices through a network: each as if it were alone, and the network left as it was."""

import pytest
import torch
from torch import Tensor, nn

from ctsr.infer import super_resolve
from ctsr.models import Architecture, build


class Moody(nn.Module):
    """Enlarges by repetition; answers ten times as loud while it trains, and refuses images of one row."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, lr: Tensor) -> Tensor:
        if lr.shape[2] == 1:
            raise ValueError("too small")
        return self.gain * (10 if self.training else 1) * lr.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_stack_of_slices_gives_each_slice_as_if_alone(scale: int) -> None:
    torch.manual_seed(0)
    net = build(Architecture("rrdb", scale, nf=4, nb=1, gc=2))
    lr = torch.rand(3, 1, 9, 14) * 2 - 1
    sr = super_resolve(net, lr)
    assert sr.shape == (3, 1, 9 * scale, 14 * scale)
    assert sr.is_contiguous()
    for i in range(3):
        assert torch.equal(sr[i : i + 1], super_resolve(net, lr[i : i + 1]))
    with torch.no_grad():
        assert torch.allclose(sr, net.eval()(lr).clamp(-1, 1), atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_net_answers_in_evaluation_mode_and_gets_its_mode_back(training: bool) -> None:
    net = Moody().train(training)
    lr = torch.rand(2, 1, 4, 4)
    assert torch.equal(super_resolve(net, lr)[..., ::2, ::2], lr)
    assert net.training == training
    with pytest.raises(ValueError, match="too small"):
        super_resolve(net, lr[:, :, :1])
    assert net.training == training


def test_answers_beyond_the_range_are_clipped() -> None:
    net = Moody()
    net.gain.data *= 5
    assert super_resolve(net, torch.tensor([[[[-0.9, 0.1], [0.0, 0.7]]]]))[0, 0, ::2, ::2].tolist() == [
        [-1.0, 0.5],
        [0.0, 1.0],
    ]
