import json
import re
from pathlib import Path
from typing import Literal

import pytest
import torch
from playwright.sync_api import sync_playwright

from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import evaluate
from ctsr.evaluate.methods import BICUBIC, MODEL, load_model_under_test
from ctsr.hashing import pseudonym
from ctsr.models import Architecture, build
from ctsr.preprocess import preprocess
from tests.made.ct import body, save_series
from tests.made.exams import save_patients
from tests.made.listener import Listener
from tests.made.model import save_model
from tests.needs import needs_program

A4_WIDTH = 688
"""CSS pixels between margins of 14 mm."""
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of two patients with everything that a report can hold."""
    place = tmp_path_factory.mktemp("report")
    exams = save_patients(place / "exams", slices=2, size=144)
    model = load_model_under_test(str(save_model(place / "runs" / "one" / "best.pth")), device="cpu")
    options = EvaluateOptions(
        root=(exams,),
        store=place / "store",
        output_dir=place / "eval_results",
        windows=("global", "soft_tissue"),
        mask=("none", "body"),
        physics=True,
        hallucination=True,
        study_slices=1,
    )
    return evaluate([model], model.degradation, options).folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def page_of(place: Path, names: tuple[str, ...], metric: str) -> str:
    """The report on patients below `exams` in one metric, without plots."""
    path = save_model(place / "m" / "best.pth", split={"train": (), "val": names, "test": ()})
    model = load_model_under_test(str(path), device="cpu")
    options = EvaluateOptions(
        root=(place / "exams",), store=place / "s", output_dir=place / "e", no_plots=True, metrics=(metric,)
    )
    return (evaluate([model], model.degradation, options).folder / "report.html").read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page)


def test_the_page_has_a_part_for_everything_that_was_computed(page: str) -> None:
    assert headings(page) == [
        *("Slices to look at", "HU by tissue", "Invented and lost detail", "Result", "Against interpolation"),
        *("Patient by patient", "Physics", "More plots", "How to repeat it"),
    ]


def test_the_page_needs_nothing_else(page: str) -> None:
    """No script, no style sheet, no picture and no font from anywhere."""
    assert not re.findall(r"(?:src|href)=\"(?!data:image/png;base64,|#)", page)
    assert "<script" not in page
    assert "url(" not in page


def test_every_plot_is_in_the_page_once(folder: Path, page: str) -> None:
    plots = {file.stem for file in (folder / "plots").iterdir()}
    assert page.count("data:image/png;base64,") == len(plots)
    assert {"transfer", "detectability", "lesions", "sfrc", "bland_altman", "heatmap", "worst"} <= plots


def test_it_begins_with_a_sentence_three_figures_and_a_slice(folder: Path, page: str) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    means = summary["patient_level_aggregate"]
    apart = means[MODEL]["PSNR"]["mean"] - means[BICUBIC]["PSNR"]["mean"]
    side = "above" if apart >= 0 else "below"
    sentence = re.search(r"<p class=\"sentence\">(.*?)</p>", page)
    assert sentence
    assert sentence[1].startswith("On 2 patients of the validation part (4 slices), at ×2: RRDB lies ")
    assert f"{abs(apart):.2f} dB {side} Bicubic in PSNR" in sentence[1]
    top = page[: page.index("<h2")]
    assert re.findall(r"<strong>([^<]*)</strong>", top)[0] == f"{means[MODEL]['PSNR']['mean']:.2f}"
    assert len(re.findall(r"<strong>[^<]*</strong>", top)) == 3
    assert top.count("data:image/png;base64,") == 1
    assert summary["created"][:10] in top


def test_its_numbers_are_those_of_the_summary(folder: Path, page: str) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for tables in (summary, summary["by_domain"]["preset-soft_tissue_body"]):
        found = tables["patient_level_aggregate"][BICUBIC]
        assert f"{found['PSNR']['mean']:.2f}" in page
        assert f"{found['SSIM']['mean']:.4f}" in page
    resolution = summary["physics"]["transfer"][0]["mtf50_per_mm"]
    assert f"{resolution:.3f} ±" in page
    residual = next(one for one in summary["hallucination"] if one["method"] == "RRDB")["mean_abs_hu"]
    assert f"{residual:.2f}" in page


def test_one_table_a_mask_has_a_group_of_columns_for_each_window(page: str) -> None:
    result = page[page.index('id="result"') : page.index('id="tests"')]
    groups = re.findall(r'<th class="group" colspan="(\d+)">(.*?)</th>', result)
    texts = ["HU −1000 … 2000", "soft tissue, C 40 W 400 HU", "HU, clipped to the model&#39;s range"]
    assert [text for _, text in groups] == texts * 2, "the whole image, and the body"
    assert "Means over the body only" in result
    assert re.search(r"Of the body, SSIM[^.]* are of the smallest rectangle that holds it\.", result)
    for table in re.findall(r"<table class=\"wide\">.*?</table>", result, re.DOTALL):
        widths = [int(width) for width in re.findall(r'colspan="(\d+)"', table)]
        heads, *methods = table.split("<tr")[2:]
        assert heads.count("<th") == sum(widths) + 1
        assert [row.count("<td") for row in methods] == [sum(widths) + 1] * 3


def test_names_are_one_and_in_words(page: str) -> None:
    """Below the settings, which are the command's own words."""
    shown = re.sub(r"<pre>.*?</pre>|<[^>]*>", " ", page, flags=re.DOTALL)
    shown = shown[: shown.index("How to repeat it", shown.index("More plots"))]
    assert not re.findall(r"Interpolation \(|Model \(|_HU|globalHU|preset-|MS_SSIM", shown)
    heads = re.findall(r"<th[^>]*>((?:PSNR|SSIM|MS-SSIM|LPIPS|MAE|RMSE|Bias)[^<]*)</th>", page)
    assert heads
    assert [head for head in heads if not re.search(r"[↑↓]|→ 0", head)] == []


def test_training_patients_and_upsampled_references_are_marked(tmp_path: Path) -> None:
    raw = save_patients(tmp_path / "raw", ["anna", "bert"], slices=1, size=40)
    preprocess(raw, tmp_path / "fine", target_spacing=0.5, workers=1)
    known = {"train": ("anna",), "val": ("bert",), "test": ()}
    model = load_model_under_test(str(save_model(tmp_path / "m" / "best.pth", split=known)), device="cpu")
    cases: tuple[tuple[Literal["train", "val"], Path, bool], ...] = (
        ("train", raw, False),
        ("val", tmp_path / "fine", False),
        ("val", raw, False),
        ("val", tmp_path / "fine", True),
    )
    for split, root, no_names in cases:
        options = EvaluateOptions(
            root=(root,),
            split=split,
            store=tmp_path / "s",
            output_dir=tmp_path / f"{split}{root.name}{no_names}",
            no_plots=True,
            no_names=no_names,
            metrics=("PSNR",),
        )
        folder = evaluate([model], model.degradation, options).folder
        page = (folder / "report.html").read_text(encoding="utf-8")
        caveats = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["caveats"]
        who = pseudonym("bert") if no_names else "bert"
        assert caveats["trained"] == (["anna"] if split == "train" else [])
        assert list(caveats["upsampled"]) == ([who] if root.name == "fine" else [])
        assert ("† A model was trained on anna" in page, "<h3>anna †</h3>" in page) == (split == "train",) * 2
        assert (f"{who} (" in page, f"<h3>{who} ‡</h3>" in page) == (root.name == "fine",) * 2


def test_a_model_that_does_not_say_whom_it_was_trained_on_is_said(tmp_path: Path) -> None:
    """Its split may have been another one: nothing refuses its training patients."""
    root = save_patients(tmp_path / "raw", ["anna", "bert", "cleo"], slices=1, size=40)
    torch.save(build(Architecture("rrdb", 2, nf=4, nb=1, gc=2)).state_dict(), tmp_path / "foreign.pth")
    listener = Listener()
    model = load_model_under_test(str(tmp_path / "foreign.pth"), device="cpu")
    options = EvaluateOptions(
        root=(root,), store=tmp_path / "s", output_dir=tmp_path / "out", no_plots=True, metrics=("PSNR",)
    )
    folder = evaluate([model], model.degradation, options, progress=listener).folder
    assert any("foreign.pth does not say whom it was trained on" in note for note in listener.notes)
    assert json.loads((folder / "summary.json").read_bytes())["caveats"]["unknown"] == ["foreign.pth"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Whom foreign.pth was trained on is not known: these patients may be among them." in page


def test_groups_of_two_patients_and_more_are_in_one_table(tmp_path: Path) -> None:
    """Kernels B, B, C and thicknesses 1, 2, 2: two groups of two; C and 1 mm are named only."""
    names = ("anna", "bert", "cleo")
    for seed, (name, kernel, thickness) in enumerate(zip(names, "BBC", (1, 2, 2), strict=True)):
        own = {
            "ConvolutionKernel": kernel,
            "SliceThickness": thickness,
            "PatientID": name,
            "StudyInstanceUID": f"1.{seed}",
        }
        save_series(tmp_path / "exams" / name, [body(40, seed=seed)], series=f"1.3.{seed + 1}", **own)
    page = page_of(tmp_path, names, "PSNR")
    strata = page[page.index('id="strata"') : page.index('id="repeat"')]
    assert strata.count("<table") == 1
    groups = re.findall(r'<td>([^<]+)</td><td class="word">([^<]+)</td><td>(\d+)</td>', strata)
    assert groups == [("kernel", "B", "2"), ("slice thickness", "2 mm", "2")]
    assert "too few for a table: kernel C; slice thickness 1 mm." in strata


def test_too_few_patients_are_said_instead_of_an_interval_and_a_p(page: str) -> None:
    assert "No interval is given: 2 patients are too few, at least 5 are needed." in page
    assert "No p is given: 2 patients: with 2 comparisons the test needs 7 to reach p &lt; 0.05." in page


@pytest.mark.parametrize(("count", "is_said"), [(5, True), (19, True), (20, False)])
def test_intervals_over_few_patients_are_called_what_they_are(count: int, is_said: bool, tmp_path: Path) -> None:
    names = tuple(f"p{number:02}" for number in range(count))
    for seed, name in enumerate(names):
        own = {"PatientID": f"ID-7{name}", "StudyInstanceUID": f"1.{seed}"}
        save_series(tmp_path / "exams" / name, [body(24, seed=seed)], series=f"1.3.{seed + 1}", **own)
    page = page_of(tmp_path, names, "SSIM")
    assert "95 % confidence interval of the mean over patients" in page
    assert ("held the mean in 65 to 89 % of trials" in page) == is_said


def test_a_name_that_looks_like_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    exams = save_patients(tmp_path / "exams", ["<b>anna", "bert"], slices=1, size=40)
    path = save_model(tmp_path / "m" / "best.pth", split={"train": ("bert",), "val": ("<b>anna",), "test": ()})
    model = load_model_under_test(str(path), device="cpu")
    options = EvaluateOptions(root=(exams,), store=tmp_path / "s", output_dir=tmp_path / "e", no_plots=True)
    written = evaluate([model], model.degradation, options).folder / "report.html"
    text = written.read_text(encoding="utf-8")
    assert "&lt;b&gt;anna" in text
    assert "<b>" not in text


def test_the_page_opens_in_a_browser_and_prints(folder: Path, tmp_path: Path) -> None:
    chromium = needs_program("chromium", "chromium")
    asked: list[str] = []
    said: list[str] = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto((folder / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no scrolling to the side"
        broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
        assert page.evaluate(broken) == 0
        page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
        page.emulate_media(media="print")
        page.set_viewport_size({"width": A4_WIDTH, "height": 1000})
        wide = "[...document.querySelectorAll('table')].filter((one) => one.offsetWidth > innerWidth).length"
        assert page.evaluate(wide) == 0, "no table is cut at the edge of the paper"
        assert not page.locator("#more").is_visible(), "no heading stands over what is folded"
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
    assert 3 <= pages(tmp_path / "report.pdf") <= 10, "two studies are in it"


def pages(pdf: Path) -> int:
    return pdf.read_bytes().count(b"/Type /Page\n")


def test_four_patients_print_on_fewer_than_eight_pages(tmp_path: Path) -> None:
    chromium = needs_program("chromium", "chromium")
    exams = save_patients(tmp_path / "exams", ["anna", "bert", "cleo", "dora"], slices=2, size=256)
    path = save_model(
        tmp_path / "m" / "best.pth", split={"train": (), "val": ("anna", "bert", "cleo", "dora"), "test": ()}
    )
    model = load_model_under_test(str(path), device="cpu")
    windows = ("global", "soft_tissue", "lung", "bone")
    options = EvaluateOptions(root=(exams,), store=tmp_path / "s", output_dir=tmp_path / "e", windows=windows)
    report = evaluate([model], model.degradation, options).folder / "report.html"
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page()
        page.goto(report.as_uri())
        page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
        browser.close()
    assert pages(tmp_path / "report.pdf") < 8
    assert report.stat().st_size < 5e6


def test_the_report_names_model_window_degradation_and_command(folder: Path, page: str) -> None:
    assert "Means over patients in HU −1000 … 2000" in page
    assert "RRDB is one; ×2 super-resolution of 4 slices of 2 patients" in page
    assert f"ctsr evaluate --config {folder / 'config.json'}" in page
    assert "RRDB on the val set" in page
    assert "blurnoise: Gaussian blur of σ 0.7 … 0.9 HR pixels, bilinear downsampling, white noise of σ" in page
    assert not re.search(r"\b1 (patients|slices)\b", page)


def test_studies_are_the_same_again(folder: Path, tmp_path: Path) -> None:
    """Seeds are those of names: a second evaluation elsewhere measures the same, to the digit."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = load_model_under_test(config["model_path"], device="cpu")
    options = EvaluateOptions(
        root=tuple(map(Path, config["root"])),
        store=Path(config["store"]),
        output_dir=tmp_path / "again",
        physics=True,
        hallucination=True,
        study_slices=1,
        no_plots=True,
        metrics=("MAE",),
    )
    again = evaluate([model], model.degradation, options).folder
    for name in ("physics.json", "hallucination.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
