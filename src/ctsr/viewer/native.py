"""Real series as they are: source, bicubic interpolation and the super-resolution that `ctsr upscale` makes of them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from threading import Lock
from typing import Any, Literal

import torch

from ctsr.dicom.reading import quiet
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.exams import SlicePixels, read_slice
from ctsr.infer import TorchEngine
from ctsr.infer.conditions import SAMPLE_SLICES
from ctsr.infer.engine import Tiled, plan_tiles
from ctsr.infer.super_resolver import SliceSuperResolver
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import enlarge
from ctsr.quality.noise import NoiseEstimate, measure_noise
from ctsr.series_quality import spread_indices
from ctsr.upscale.options import UpscaleOptions
from ctsr.upscale.tuning import Tuning, conditions_of, tune
from ctsr.viewer.images import OpenedSeries, PanelImages, PanelName, Pixels, SliceCache
from ctsr.viewer.samplers import InterruptibleModel, Setting, StaleRequestError

KEPT_STRENGTHS = 4
"""Strengths whose slices stay in the cache: a slider leaves many behind."""


class NativeImages(PanelImages):
    """Source, bicubic and SR slices in HU. Thread-safe.

    SR of a slice is what `ctsr upscale` writes with the same model, engine and options. How much interpolation is
    mixed in is known only when a few slices of the series are done (`tune`); until then it is taken for none, and
    slices that come out otherwise are dropped.
    """

    in_hu = True

    def __init__(self, cache: SliceCache, model: ModelUnderTest, *, assume_hu: bool) -> None:
        super().__init__(cache, model.scale, model.hu_range, InterruptibleModel(model))
        self._engine = model.engine or TorchEngine(model.model.net)
        self._architecture = model.model.architecture
        self._assume_hu = assume_hu
        self._lock = Lock()
        self._resolvers: dict[int, SliceSuperResolver] = {}
        self._noise: dict[int, NoiseEstimate] = {}
        self._tunings: dict[tuple[int, int], Tuning] = {}

    def lr(self, series: OpenedSeries, setting: Setting, index: int) -> Pixels:
        """The source slice, (h, w) in HU, padding as air."""
        key = self.key("LR", series, setting, index)
        cached = self.cache.get(key)
        if cached is None:
            cached = self._read(series, index).hu
            self.cache.put(key, cached)
        return cached

    def key(self, panel: Literal["LR", "SR"], series: OpenedSeries, setting: Setting, index: int) -> Hashable:
        """What a slice is known by in the cache: the source does not depend on the strength."""
        return panel, series.number, 0 if panel == "LR" else setting.number, index

    def interpolated(self, panel: PanelName, lr: Pixels) -> Pixels:
        """(slices, h, w) → (slices, scale·h, scale·w) in HU, overshoot included."""
        assert panel == "Bicubic", "the only interpolation that is shown of images as they are"
        return enlarge(torch.from_numpy(lr)[:, None], self.scale, "bicubic")[:, 0].numpy()

    def compute_sr(self, series: OpenedSeries, setting: Setting, index: int, is_cancelled: Callable[[], bool]) -> None:
        """Compute and cache SR of one slice.

        Raises:
            StaleRequestError: `is_cancelled` returned True before the slice was finished.
        """
        assert self.model is not None
        assert setting.strength is not None
        tuning = self.tuning(series, setting)
        resolver = self._resolver(series)
        conditions = conditions_of(self._noise_of(series), resolver, setting.strength)
        chosen = resolver if tuning is None else tuning.apply_to(resolver)
        pixels = self._read(series, index)
        with self.model.running(is_cancelled):
            sr = chosen(pixels, conditions).hu
        with self._lock:
            if self.tuning(series, setting) is tuning:  # else made with another share: it is made again
                self.cache.put(self.key("SR", series, setting, index), sr)

    def is_tuned(self, series: OpenedSeries, setting: Setting) -> bool:
        """Whether before and after, and with them the network's share, are known."""
        return (series.number, setting.number) in self._tunings

    def tuning(self, series: OpenedSeries, setting: Setting) -> Tuning | None:
        """What `ctsr upscale` records of the series; None where it is not measured yet."""
        return self._tunings.get((series.number, setting.number))

    def tune(self, series: OpenedSeries, setting: Setting, is_cancelled: Callable[[], bool]) -> None:
        """Super-resolve a few slices of the series and measure them, as `ctsr upscale` does before it begins.

        Raises:
            StaleRequestError: `is_cancelled` returned True meanwhile.
        """
        assert self.model is not None
        assert setting.strength is not None
        if self.is_tuned(series, setting):
            return
        with self.model.running(is_cancelled):
            made = tune(self._samples(series), self._resolver(series), series.source.pixel_spacing, setting.strength)
        if is_cancelled():
            raise StaleRequestError
        with self._lock:
            self._tunings[series.number, setting.number] = made
            if made.network_share < 1:
                self.cache.drop(lambda key: key[:3] == ("SR", series.number, setting.number))
            latest = setting.number
            self.cache.drop(lambda key: key[0] == "SR" and 0 < key[2] <= latest - KEPT_STRENGTHS)

    def told_now(self, series: OpenedSeries, options: UpscaleOptions) -> Conditions | None:
        """What the network is told of a series at a strength; None for one that cannot be told."""
        return conditions_of(self._noise_of(series), self._resolver(series), options)

    def described(self, series: OpenedSeries, setting: Setting) -> dict[str, Any]:
        """Before and after as run.json of `ctsr upscale` has them; None where they are not measured yet."""
        assert setting.strength is not None
        tuning, hu_per_unit = self.tuning(series, setting), self.hu_range.hu_per_unit
        if tuning is not None:
            return tuning.plain(hu_per_unit) | {"warnings": tuning.warnings()}
        told, noise = self.told_now(series, setting.strength), self._noise_of(series)
        return {
            "told": told and {"blur_sigma_px": told.blur_sigma, "noise_hu": told.noise_sigma * hu_per_unit},
            "noise": asdict(noise),
            **dict.fromkeys(("network_share", "before_after", "bicubic")),
            "warnings": [],
        }

    def _resolver(self, series: OpenedSeries) -> SliceSuperResolver:
        """As `ctsr upscale` makes it, with the whole share of the network."""
        if series.number not in self._resolvers:
            options, shape = UpscaleOptions(), (series.source.rows, series.source.columns)
            tiling = plan_tiles(self._architecture, shape, options.memory_bytes)
            self._resolvers[series.number] = SliceSuperResolver(
                self._engine if tiling is None else Tiled(self._engine, self.scale, tiling),
                self.scale,
                self.hu_range,
                conditional=self._architecture.conditional,
                skip_air=options.skip_air,
                consistent=options.consistent,
            )
        return self._resolvers[series.number]

    def _noise_of(self, series: OpenedSeries) -> NoiseEstimate:
        if series.number not in self._noise:
            slices = self._samples(series)
            self._noise[series.number] = measure_noise(
                [pixels.hu for pixels in slices],
                series.source.pixel_spacing,
                [pixels.padding for pixels in slices],
            )
        return self._noise[series.number]

    def _samples(self, series: OpenedSeries) -> Sequence[SlicePixels]:
        return [self._read(series, index) for index in spread_indices(len(series.source.slices), SAMPLE_SLICES)]

    def _read(self, series: OpenedSeries, index: int) -> SlicePixels:
        with quiet():
            return read_slice(series.source, index, assume_hu=self._assume_hu)
