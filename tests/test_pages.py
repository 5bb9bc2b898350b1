"""What the pages name is there: paths, names of the code, links, layer types and data sets."""

import json
import re
from pathlib import Path

import pytest

from netspec.base.metrics import MEASURES
from netspec.data.layouts import LAYOUTS
from netspec.papers import clouds

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "netspec"
MAPS = [PROJECT / "docs" / "architecture.md", PROJECT / "docs" / "reliability.md", PROJECT / "CONTRIBUTING.md"]
PAGES = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("data/*/README.md"), PROJECT / "tests/golden/README.md"]
STANDS_FOR = re.compile(r"(?<![A-Z])(?:NAME|WING|FILE|TYPE)(?![A-Z])")  # any name


def identity(page):
    return str(page.relative_to(PROJECT))


def prose(page):
    """A page without its blocks of code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def found(path):
    """The files that a page may mean by a path: from the project or the package, with or without .py."""
    pattern = STANDS_FOR.sub("*", path.rstrip("/"))
    return [file for base in (PROJECT, PACKAGE) for end in ("", ".py") for file in base.glob(pattern + end)]


def quoted(page):
    return re.findall(r"`([^`\n]+)`", prose(page))


@pytest.mark.parametrize("page", MAPS, ids=identity)
def test_the_paths_of_the_maps_are_there(page):
    paths = {word for word in quoted(page) if re.fullmatch(r"[\w.*-]+/[\w./*-]*|[\w-]+\.(md|py|txt|toml|cfg|json)", word)}
    assert paths and not {path for path in paths if not found(path)}


@pytest.mark.parametrize("page", MAPS, ids=identity)
def test_the_names_of_the_maps_are_in_the_code(page):
    words = {word for file in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.proto"), *PROJECT.glob("tests/**/*.py"))
             for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))}
    named = {name for word in quoted(page) for name in re.findall(r"^\w+(?=$|\()", word)}
    named = {name for name in named if not STANDS_FOR.fullmatch(name)}
    assert named and not named - words


@pytest.mark.parametrize("page", MAPS, ids=identity)
def test_names_in_a_file_are_in_that_file(page):
    """Such as `clip` and `RULES` in `train/updates.py`."""
    name = r"`\w+(?:\([^`]*\))?`"
    for names, path in re.findall(rf"({name}(?:(?:,|,? and| or)\s+{name})*)\s+(?:in|of)\s+`([\w/]+(?:\.\w+)?)`", prose(page)):
        texts = [file.read_text(encoding="utf-8") for file in found(path) if file.is_file()]
        for one in re.findall(r"`(\w+)", names):
            assert any(re.search(rf"\b{one}\b", text) for text in texts), f"{one} in {path}"


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_files_of_python_are_there(page):
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"(?<![\w/.])(?:tools|tests|models|solvers|data|netspec)/[\w/]+\.py\b", text)
    assert not [file for file in files if not found(file)]


@pytest.mark.parametrize("path", sorted((PROJECT / "docs" / "records").iterdir()), ids=identity)
def test_records_are_what_the_study_says(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {"command", "date", "netspec", "device"} <= found["origin"].keys()
    if "map" in found:
        boxes_are_what_the_page_says(found, (PROJECT / "docs" / "rfcn.md").read_text(encoding="utf-8"))
        return
    if "clouds" in found:
        page = (PROJECT / "docs" / "clouds.md").read_text(encoding="utf-8")
        first = clouds.measures([run for run in found["clouds"] if run["seed"] == 1], found["baseline"])
        tables = [clouds.thresholds(found["clouds"])] + [first, clouds.borders(found["clouds"])] * (path.stem == "clouds")
        assert all(f"\n{each}\n" in page for each in tables)
        return
    if "runs" in found:
        the_study_is_what_the_page_says(found["runs"], (PROJECT / "docs" / "rfcn.md").read_text(encoding="utf-8"))
        return
    page = (PROJECT / "docs" / "camvid.md").read_text(encoding="utf-8")
    figures = [f"{100 * found[measure]:.1f}" for measure in MEASURES]
    assert " / ".join(figures) in page or re.search(rf"^{found['net']} +{' +'.join(figures)}$", page, re.MULTILINE)
    for name, iu, accuracy in zip(*(found.get(key, ()) for key in ("class_names", "class_iu", "class_accuracy")), strict=True):
        assert re.search(rf"^{name} +{100 * iu:.1f} +{100 * accuracy:.1f}$", page, re.MULTILINE)


def boxes_are_what_the_page_says(found, page):
    assert re.search(rf"\b{found['images']}( \w+)? images\b", page) and f"overlap above {found['overlap']:g}" in page
    of_all = dict(name=found["net"], ap=found["map"], ap_11_point=found["map_11_point"], truths=sum(
        each["truths"] for each in found["classes"]), detections=sum(each["detections"] for each in found["classes"]))
    for each in (of_all, *found["classes"]):
        figures = [f"{100 * each['ap']:.1f}", f"{100 * each['ap_11_point']:.1f}", each["truths"], each["detections"]]
        assert re.search(rf"^{each['name']} +{' +'.join(map(str, figures))}$", page, re.MULTILINE), each


def the_study_is_what_the_page_says(runs, page):
    for net, said in {"": "k = 3", "-ohem": "k = 3, OHEM", "-k1": "k = 1", "-k1-ohem": "k = 1, OHEM"}.items():
        found = [100 * run["map"] for run in runs if run["net"] == f"shapes-rfcn{net}"]
        assert len(found) == 3 and f"| {said} | {sum(found) / 3:.1f} | {min(found):.1f} | {max(found):.1f} |\n" in page


def test_the_readmes_figures_of_camvid_are_in_records():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    said = re.search(r"mean IU of ([\d.]+), and ([\d.]+) on\s+the validation images; .* brought ([\d.]+) and ([\d.]+)", text)
    kept = [json.loads((PROJECT / "docs" / "records" / f"camvid-crops-fcn8s{name}.{kind}.json").read_text())["mean_iu"]
            for name in ("", "-longer") for kind in ("scores", "val")]
    assert [*said.groups()] == [f"{100 * iu:.1f}" for iu in kept]


def test_every_data_set_is_on_its_page():
    text = (PROJECT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert not [name for name in LAYOUTS if f"| `{name}` |" not in text]
    assert not [name for name, layout in LAYOUTS.items() if not (PROJECT / "data" / layout.facts / "README.md").is_file()]
