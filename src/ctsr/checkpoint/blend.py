"""Between two generators: their weights interpolated, so that the strength of fine-tuning can be chosen afterwards."""

from dataclasses import asdict, replace
from pathlib import Path

from ctsr.checkpoint.files import Checkpoint, save_checkpoint
from ctsr.checkpoint.generator import Blend, Generator
from ctsr.checkpoint.meta import Meta, current_versions
from ctsr.errors import CheckpointError, DomainError
from ctsr.hashing import digest
from ctsr.models.architecture import load_state

__all__ = ["blend", "blended_path", "save_blend"]


def blend(first: Generator, second: Generator, alpha: float) -> Generator:
    """``(1 − α)·first + α·second``, weight by weight (network interpolation, ESRGAN section 3.4).

    Meaningful for generators of which one was trained on from the other. The averaged weights are taken where a file
    has them.

    Args:
        first: what α = 0 gives back.
        second: what α = 1 gives back; the blend carries its meta, and counts as trained on the patients of both.
        alpha: in [0, 1].

    Raises:
        DomainError: α lies outside.
        CheckpointError: the two are different networks, or see HU differently.
    """
    if not 0 <= alpha <= 1:
        raise DomainError(f"--alpha must be in [0, 1], got {alpha:g}")
    if first.architecture != second.architecture:
        raise CheckpointError(
            f"{first.path} ({first.architecture}) and {second.path} ({second.architecture}) are different networks"
        )
    if first.hu_range != second.hu_range:
        raise CheckpointError(f"{first.path} and {second.path} were trained on different HU ranges")
    ours, theirs = first.net.state_dict(), second.net.state_dict()
    # Where α is 0 or 1 the weights come back to the bit.
    state = {key: ours[key].cpu().lerp(theirs[key].cpu(), alpha) for key in ours}
    _, net = load_state(state)
    made_of = Blend(str(first.path), first.sha256, str(second.path), second.sha256, alpha)
    return Generator(
        net=net,
        architecture=second.architecture,
        meta=_joined(first, second),
        path=blended_path(second.path, alpha),
        sha256=digest(first.sha256, second.sha256, repr(alpha), size=32).hex(),
        blend=made_of,
    )


def blended_path(second: Path, alpha: float) -> Path:
    """Where a blend goes that nobody has named: beside its second generator."""
    return second.with_name(f"{second.stem}_alpha{alpha:g}.pth")


def save_blend(path: Path, first: Generator, second: Generator, alpha: float) -> None:
    """Write the blend as a checkpoint that evaluates and is applied like any other, and knows what it was made of.

    Raises:
        CheckpointError: see `blend`; or neither file tells how it was trained.
        DomainError: α lies outside [0, 1].
    """
    blended = blend(first, second, alpha)
    if blended.meta is None or blended.blend is None:
        raise CheckpointError(
            f"{second.path} does not say how it was trained; only files that ctsr wrote can be blended"
        )
    made_of = {"blend": asdict(blended.blend)}
    save_checkpoint(path, Checkpoint(blended.meta, blended.net.state_dict(), training=made_of))


def _joined(first: Generator, second: Generator) -> Meta | None:
    """The second's meta; whoever one of the two was trained on counts as trained on."""
    if second.meta is None or first.meta is None:
        return second.meta
    others = (first.meta.trained_on | second.meta.trained_on) - set(second.meta.split.get("train", ()))
    identities = {*first.meta.trained_identities, *second.meta.trained_identities}
    return replace(
        second.meta,
        also_trained_on=tuple(sorted(others)),
        trained_identities=tuple(sorted(identities)),
        versions=current_versions(),
    )
