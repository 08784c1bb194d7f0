"""Where a step of fine-tuning spends its time: data, generator, perceptual loss, adversarial loss, discriminator, EMA.

Shares of CPU time in one run, each part by itself. The trunk has random weights: they cost what real ones do.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.common import exams, opened, workspace
from ctsr.data.pairs import EpochSampler, PatchDataset, PatchPair, Ticket
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.hu import DEFAULT_RANGE
from ctsr.losses import TRUNKS, Conv, PerceptualLoss, Trunk
from ctsr.models import Architecture, build
from ctsr.models.discriminators import build_critic
from ctsr.reporting import SILENT
from ctsr.train import FinetuneOptions
from ctsr.train.adversarial import FinetuneStage, WeightedLoss
from ctsr.train.context import TrainingContext, Validation
from ctsr.train.loop import learner

PATCH, ROUNDS = 96, 2
NETS = {
    "small net (nf 32, nb 2)": (Architecture("rrdb", 2, 32, 2, 16), 8),
    "full net (nf 64, nb 23)": (Architecture("rrdb", 2, 64, 23, 32), 2),
}
"""Each with the patches of a step."""
WEIGHTS = {"l1": 1.0, "perc": 0.08, "gan": 0.003, "consistency": 0.0, "artifact": 0.0}


def run() -> None:
    """A small and the full generator."""
    with workspace() as folder:
        _, series = opened(exams(folder), folder / "store")
        dataset = PatchDataset(series, patch_size=PATCH, degradation=Degradation(), hu_range=DEFAULT_RANGE, seed=0)
        for name, (architecture, batch) in NETS.items():
            tickets = [Ticket(1, i) for i in range(batch)]
            _report(name, _stage(architecture, dataset, batch), partial(dataset.__getitems__, tickets))


def _report(name: str, stage: FinetuneStage, fetch: Callable[[], PatchPair]) -> None:
    batch = fetch()
    sr = stage.generator.bare(batch.lr).detach().requires_grad_()
    parts: dict[str, Callable[[], object]] = {
        "data": fetch,
        "generator": lambda: stage.generator.bare(batch.lr).abs().mean().backward(),
        "perceptual loss": lambda: _perceptual(stage, sr, batch.hr).backward(),
        "adversarial loss": lambda: stage.objective.adversarial_term(
            stage.critic.bare, sr, batch.hr, Tensor.mean
        ).backward(),
        "discriminator": lambda: stage._critic_step(sr.detach(), batch.hr),  # pyright: ignore[reportPrivateUsage]
        "EMA": stage.generator.average_in,
    }
    whole = _cpu_seconds(lambda: stage.step(batch, 10**6)) + (fetching := _cpu_seconds(fetch))
    print(f"{name}: a step of {len(batch)} patches of {PATCH}² takes {whole:.2f} CPU-s")
    for part, work in parts.items():
        seconds = fetching if part == "data" else _cpu_seconds(work)
        target = "  (target: under 3 %)" if part == "EMA" else ""
        print(f"    {part:<18} {seconds:7.3f} s  {seconds / whole:6.1%}{target}")


def _perceptual(stage: FinetuneStage, sr: Tensor, hr: Tensor) -> Tensor:
    assert stage.objective.perceptual is not None
    return stage.objective.perceptual(sr, hr)


def _cpu_seconds(work: Callable[[], object]) -> float:
    """The least of a few runs after one to warm up."""
    found: list[float] = []
    for _ in range(ROUNDS + 1):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found[1:])


def _stage(architecture: Architecture, dataset: PatchDataset, batch: int) -> FinetuneStage:
    fabric = Fabric(accelerator="cpu")
    torch.manual_seed(0)
    generator = learner(fabric, build(architecture), lr=1e-4, clip_grad=1, ema=0.999)
    critic = learner(fabric, build_critic("patch"), lr=1e-4, clip_grad=1)
    sampler = EpochSampler(len(dataset), seed=0)
    validation = Validation((), DegradationSampler(Degradation()), DEFAULT_RANGE, 0)
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch, sampler=sampler)
    context = TrainingContext(fabric, loader, sampler, validation, batch, SILENT)
    objective = WeightedLoss(WEIGHTS, PerceptualLoss(_random_vgg16(), {"conv5_3": 1.0}), "ragan", Degradation())
    return FinetuneStage(context, generator, critic, objective, FinetuneOptions())


def _random_vgg16() -> Trunk:
    state: dict[str, Tensor] = {}
    channels = 3
    for number, layer in enumerate(layer for layer in TRUNKS["vgg16"] if isinstance(layer, Conv)):
        state[f"features.{number}.weight"] = 0.05 * torch.randn(layer.channels, channels, 3, 3)
        state[f"features.{number}.bias"] = torch.zeros(layer.channels)
        channels = layer.channels
    return Trunk("vgg16", state)
