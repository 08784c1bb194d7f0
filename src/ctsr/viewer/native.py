"""Real series as they are: source, interpolation and what `ctsr upscale` makes of them, in plane and between slices."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, replace
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch

from ctsr.data.hu_cache import StoredSeries
from ctsr.dicom import quiet
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.exams import SlicePixels, read_slice
from ctsr.infer import Engine, SliceSuperResolver, TorchEngine
from ctsr.infer.conditions import SAMPLE_SLICES
from ctsr.infer.engine import Tiled, plan_tiles
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import enlarge
from ctsr.quality.noise import NoiseEstimate, measure_noise
from ctsr.series import Series
from ctsr.series_quality import spread_indices
from ctsr.through_plane import SliceGrid, along_z, interpolation, parse_profile, plan_slices
from ctsr.through_plane.super_resolver import ThroughPlaneSuperResolver
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.between import unlike_training
from ctsr.upscale.tuning import Tuning, conditions_of, noise_told_between, tune, unmeasured
from ctsr.viewer import PlaneName
from ctsr.viewer.images import OpenedSeries, PanelImage, PanelImages, PanelName, Pixels, SliceCache, view_geometry
from ctsr.viewer.samplers import InterruptibleModel, Setting, StaleRequestError
from ctsr.volume import at_spacing, resample

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
        self._architecture, self._meta = model.model.architecture, model.model.meta
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
            return tuning.plain(hu_per_unit) | {"warnings": tuning.warnings(self._meta)}
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


def open_between(
    number: int, series: Series, stored: StoredSeries, options: UpscaleOptions, *, assume_hu: bool
) -> OpenedSeries:
    """Where the wanted slices lie, and how they are shown: each is a row of coronal and sagittal images.

    Raises:
        SeriesError: there are no places between such slices.
        UsageError: the slices lie as near already.
    """
    spacing = options.wanted_slice_spacing
    assert spacing is not None, "asked for with slices between slices only"
    profile = None if options.slice_profile is None else parse_profile(options.slice_profile)
    grid, notes = plan_slices(series, spacing, profile, assume_hu=assume_hu, option=options.slice_option)
    base = view_geometry(series, 1, native=True)
    count, rises = grid.num_wanted, base.z_rows[0] > base.z_rows[-1]
    middles = grid.source_positions(0, grid.count) + grid.spacing / 2
    height = count * grid.spacing
    plane = series.plane(0) if options.isotropic is None else at_spacing(series.plane(0), options.isotropic)
    geometry = replace(
        base,
        shape=(count, *plane.shape),
        spacing=(grid.spacing, *plane.spacing),
        z_rows=tuple(range(count))[:: -1 if rises else 1],
        source_mm=tuple(float(height - middle if rises else middle) for middle in middles),
    )
    # The page says of which series they are, and its folder may have a patient's name.
    notes = [line.removeprefix(f"{series.path}: ") for line in notes]
    return OpenedSeries(number, stored, geometry, series, grid, tuple(notes))


KEPT_SETTINGS = 2
"""Strengths whose slices stay in the cache."""


class _Stoppable:
    """An engine that asks before every plane whether it is still wanted: a slab has hundreds of them."""

    def __init__(self, engine: Engine, model: InterruptibleModel) -> None:
        self._engine, self._model = engine, model

    @property
    def name(self) -> str:
        return self._engine.name

    def __call__(self, lr: torch.Tensor) -> torch.Tensor:
        self._model.stop_if_cancelled()
        return self._engine(lr)


class BetweenImages(PanelImages):
    """Source, cubic and SR slices in HU, counted on the grid of the wanted slices. Thread-safe.

    SR is made slab by slab, and is what `ctsr upscale --slice_spacing` writes with the same model and engine. The
    source is shown by its nearest slice.
    """

    in_hu = True

    def __init__(self, cache: SliceCache, model: ModelUnderTest, *, assume_hu: bool) -> None:
        interruptible = InterruptibleModel(model)
        super().__init__(cache, 1, model.hu_range, interruptible)
        engine = _Stoppable(model.engine or TorchEngine(model.model.net), interruptible)
        self._resolver = ThroughPlaneSuperResolver(engine, model.hu_range, UpscaleOptions().skip_air)
        self._assume_hu, self._meta = assume_hu, model.model.meta
        self._noise: dict[int, NoiseEstimate] = {}

    def lr(self, series: OpenedSeries, setting: Setting, index: int) -> Pixels:
        """The source slice nearest to a wanted one, (rows, columns) in HU, padding as air."""
        key = self.key("LR", series, setting, index)
        cached = self.cache.get(key)
        if cached is None:
            cached = self._read(series, _grid(series).nearest(index)).hu
            self.cache.put(key, cached)
        return cached

    def key(self, panel: Literal["LR", "SR"], series: OpenedSeries, setting: Setting, index: int) -> Hashable:
        """Several wanted slices share a source slice, and all settings do."""
        if panel == "LR":
            return panel, series.number, _grid(series).nearest(index)
        return panel, series.number, setting.number, index

    def batch(self, series: OpenedSeries, index: int) -> range:
        """The slab."""
        _, rows, columns = series.geometry.shape
        return self._resolver.slab_of(_grid(series), rows * columns, index)

    def compute_sr(self, series: OpenedSeries, setting: Setting, index: int, is_cancelled: Callable[[], bool]) -> None:
        """Compute and cache SR of every slice of the slab that holds this one.

        Raises:
            StaleRequestError: `is_cancelled` returned True before the slab was finished.
        """
        assert self.model is not None
        slab = self.batch(series, index)
        with self.model.running(is_cancelled):
            made = self._resolver.slab(
                lambda number: self._read(series, number), _grid(series), self._told_hu(series, setting), index
            )
        for number in sorted(slab, key=lambda number: -abs(number - index)):  # the last ones stay where room is short
            self.cache.put(self.key("SR", series, setting, number), made[number - slab.start].hu)
        # A slider leaves slabs behind, each of some 100 MB.
        self.cache.drop(lambda key: key[0] == "SR" and key[2] <= setting.number - KEPT_SETTINGS)

    def image(
        self, panel: PanelName, series: OpenedSeries, setting: Setting, plane: PlaneName, index: int
    ) -> PanelImage:
        """As of other images, but for interpolation: that is along z, between the source slices."""
        if panel != "Cubic":
            return super().image(panel, series, setting, plane, index)
        if plane == "axial":
            cubic = self._cubic(series, setting, index)
            nothing = np.zeros(len(cubic), np.bool_)
            return PanelImage(cubic, True, nothing, nothing)
        return self._cubic_across(series, plane, index)

    def _cubic(self, series: OpenedSeries, setting: Setting, index: int) -> Pixels:
        grid = _grid(series)
        needed = list(grid.sources(index))
        weights = interpolation("cubic", grid.source_positions(0, grid.count), [index * grid.spacing])[:, needed]
        source = [self._source(series, setting, number) for number in needed]
        return along_z(weights, np.stack(source))[0]

    def _cubic_across(self, series: OpenedSeries, plane: PlaneName, index: int) -> PanelImage:
        """Rows are missing until every source slice that they are made of has been read."""
        grid, geometry = _grid(series), series.geometry
        cached = [self.cache.get(("LR", series.number, number)) for number in range(grid.count)]
        lines = np.zeros((grid.count, geometry.size(plane)[1]), np.float32)
        for number, pixels in enumerate(cached):
            if pixels is not None:
                lines[number] = pixels.take(index, 0 if plane == "coronal" else 1)
        wanted = np.array(geometry.z_rows) * grid.spacing
        weights = interpolation("cubic", grid.source_positions(0, grid.count), wanted)
        unread = np.array([pixels is None for pixels in cached])
        missing = np.asarray((np.abs(weights[:, unread]) > 0).any(axis=1), np.bool_)
        values = along_z(weights, lines)
        values[missing] = np.nan
        return PanelImage(values, True, missing, np.zeros(len(missing), np.bool_))

    def _source(self, series: OpenedSeries, setting: Setting, number: int) -> Pixels:
        """A source slice by its own number."""
        grid = _grid(series)
        nearest = min(grid.num_wanted - 1, round(number * grid.distance / grid.spacing))
        if grid.nearest(nearest) == number:
            return self.lr(series, setting, nearest)
        return self._read(series, number).hu

    def described(self, series: OpenedSeries, setting: Setting) -> dict[str, Any]:
        """What the network is told, and what had to be assumed of the series."""
        assert setting.strength is not None
        noise = self._noise_of(series)
        option = setting.strength.slice_option
        warnings = [*series.notes, *unlike_training(_grid(series), self._meta, option=option)]
        warnings += unmeasured(noise, setting.strength.denoise or 0.0)
        return {
            "strength": {"denoise": setting.strength.denoise or 0.0, "sharpen": 0.0},
            "told": {"noise_hu": self._told_hu(series, setting)},
            "noise": asdict(noise),
            "thickness_mm": _grid(series).profile.width,
            "distance_mm": _grid(series).distance,
            "warnings": [f"{line[:1].upper()}{line[1:]}." for line in warnings],
        }

    def _told_hu(self, series: OpenedSeries, setting: Setting) -> float:
        """Noise that the network is told of: none unless `denoise` was asked for, as in `ctsr upscale`."""
        return noise_told_between(self._noise_of(series), setting.strength and setting.strength.denoise)

    def _noise_of(self, series: OpenedSeries) -> NoiseEstimate:
        if series.number not in self._noise:
            slices = [self._decode(series, index) for index in spread_indices(_grid(series).count, SAMPLE_SLICES)]
            self._noise[series.number] = measure_noise(
                [pixels.hu for pixels in slices],
                series.source.pixel_spacing,
                [pixels.padding for pixels in slices],
            )
        return self._noise[series.number]

    def _read(self, series: OpenedSeries, number: int) -> SlicePixels:
        """A source slice on the pixels that are wanted."""
        pixels, geometry = self._decode(series, number), series.geometry
        before = series.source.plane(number)
        if (before.shape, before.spacing) == (geometry.shape[1:], geometry.spacing[1:]):
            return pixels
        resampled = resample(pixels.hu, pixels.padding, before, at_spacing(before, geometry.spacing[1]))
        return SlicePixels.from_padded(resampled.hu, resampled.padding)

    def _decode(self, series: OpenedSeries, number: int) -> SlicePixels:
        with quiet():
            return read_slice(series.source, number, assume_hu=self._assume_hu)


def _grid(series: OpenedSeries) -> SliceGrid:
    assert series.between is not None, "opened with slices between slices"
    return series.between
