"""The report as a page: what it says, that it stands alone, and how a browser sees it."""

import copy
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from gyre.page import MAP_SIDE, make_page, matrices, weight_map
from sim.energy import Entry, Ledger
from sim.technology import Range
from tests.examples import example_network, image_network
from tests.gyre.front import Call, call
from tests.gyre.test_report import LAYER, REPORT
from tests.tools import refused, require_tools

NETWORK = example_network()
RESOURCES = {"multipliers": 241, "memory_bits": 37488}
PLAIN = copy.deepcopy(REPORT) | {
    "source": "trained by this recipe",
    "network": NETWORK.hash(),
    "resources": RESOURCES,
}


def made(**keys: object) -> str:
    return make_page(PLAIN | keys, NETWORK, ["gyre run recipes/x.toml"])


class Reader(HTMLParser):
    """Collects tags, their links and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.open.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def test_the_verdict_comes_first() -> None:
    text = Reader(made()).text
    verdict = text.index("EQUAL, bit for bit: 10,000 test frames of mnist in RTL, 0 mismatches")
    assert verdict < text.index("Accuracy at each step") < text.index("Layers")
    assert text.index("Weights") < text.index("Resources") < text.index("How to reproduce")


def test_every_figure_of_the_report_is_there() -> None:
    text = Reader(made()).text
    for part in ["98.52 %", "97.50 %", "46,080", "99.3 %", "37,488", "5.00", NETWORK.hash()]:
        assert part in text, part
    assert "gyre run recipes/x.toml" in text


def test_what_differs_is_said() -> None:
    rtl = PLAIN["rtl"] | {
        "equal": False,
        "mismatches": 3,
        "differences": ["frames: first difference in frame 7 <b>"],
    }
    page = made(rtl=rtl)
    assert 'class="verdict unequal"' in page
    assert "first difference in frame 7 &lt;b&gt;" in page
    assert "NOT EQUAL: 3 codes differ" in page


def test_page_needs_no_other_file_and_runs_nothing() -> None:
    page = made()
    reader = Reader(page)
    assert "script" not in reader.open
    assert reader.links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in reader.links)
    assert not re.search(r"url\((?!#)", page)
    assert not re.search(r"@import|<link|<iframe|<object", page)


def test_page_is_the_same_every_time() -> None:
    assert made() == made()


def test_energy_shares_are_there_if_the_report_has_them() -> None:
    assert 'id="energy"' not in made()
    ledger = [Entry("converters", 2, Range(0.1, 0.5, 0.9)), Entry("cells", 6, Range(0.1, 0.5, 0.9))]
    ledger.append(Entry("none", 0, Range(1.0, 1.0, 1.0)))
    page = made(energy=Ledger("energy a frame", "J", tuple(ledger), ("cmos",)).plain())
    assert Reader(page).text.count("75.0 %") == 1
    assert page.index("cells") < page.index("converters")


def test_what_an_fpga_takes_is_there_if_the_report_has_it() -> None:
    assert 'id="fpga"' not in made()
    figures = {"lut": 3000, "ff": 2100, "dsp": 64, "bram": 8}
    fpga = {
        "device": "ecp5-85k",
        "used": figures | {"ff_in_dsp": 400, "fmax_mhz": 104.79},
        "available": {"lut": 83640, "ff": 83640, "dsp": 156, "bram": 208},
        "estimate": figures | {"lut": 3150},
        "error": {"lut": 0.05, "ff": 0.0, "dsp": 0.0, "bram": None},
    }
    text = Reader(made(fpga=fpga)).text
    assert "On ecp5-85k" in text
    assert "LUT 3,000 83,640 3,150 5.0 %" in text
    assert "Fmax 104.79 MHz; 400 more registers" in text


def test_layers_without_weights_leave_their_cells_empty() -> None:
    layer = LAYER | {"name": "pool", "engine": None, "arithmetic": None, "utilisation": None}
    page = made(layers=[LAYER, layer | {"density": None, "weight_reuse": None}])
    assert "None" not in page


def test_report_of_another_network_is_refused() -> None:
    error = refused(lambda: made(network="0" * 64))
    assert "another network (000000000000)" in error.found
    assert error.remedy == "run `gyre run` again"


# --- weight maps -------------------------------------------------------------------------------


def test_every_matrix_has_a_map_that_shows_its_structure() -> None:
    network = image_network()
    page = make_page(PLAIN | {"network": network.hash()}, network, [])
    found = list(matrices(network))
    assert [name for name, _, _ in found] == ["conv", "depth", "fc"]
    assert page.count('class="map"') == len(found)
    for name, values, storage in found:
        assert f"{name}: {values.shape[0]} × {values.shape[1]}, {storage}" in page


def test_white_is_nought_and_nothing_else() -> None:
    values = np.array([[0, 1, -1, 500], [-500, 0, 0, 2]])
    white = (weight_map(values) == 255).all(axis=-1)
    assert (white == (values == 0)).all()
    red, green, blue = weight_map(values)[0, 3]
    assert red > green == blue
    red, green, blue = weight_map(values)[1, 0]
    assert blue > green == red


def test_large_matrices_shrink_without_hiding_a_weight() -> None:
    values = np.zeros((3 * MAP_SIDE + 1, 5), dtype=np.int64)
    values[777, 3] = -4
    pixels = weight_map(values)
    assert pixels.shape == (-(-len(values) // 4), 5, 3)
    assert (~(pixels == 255).all(axis=-1)).nonzero() == (np.array([777 // 4]), np.array([3]))


# --- the command and the browser ---------------------------------------------------------------


def test_command_writes_the_page(first_run: tuple[Path, Call], tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(first_run[0], out)
    said = call("report", tiny, "--out", out)
    assert said.status == 0
    assert f"page       {out / 'report.html'}" in said.out
    text = Reader((out / "report.html").read_text()).text
    assert "70 test frames of digits in RTL, 0 mismatches" in text
    assert f"gyre run {tiny}" in text


def test_command_without_the_network_says_so(
    first_run: tuple[Path, Call], tiny: Path, tmp_path: Path
) -> None:
    shutil.copy(first_run[0] / "report.json", tmp_path)
    said = call("report", tiny, "--out", tmp_path)
    assert said.status == 2
    assert str(tmp_path / "network") in said.error
    assert not (tmp_path / "report.html").exists()


def test_a_browser_shows_the_page_whole(tmp_path: Path) -> None:
    require_tools("chromium")
    page = tmp_path / "report.html"
    page.write_text(made())
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'p'}"]

    def chromium(*arguments: str) -> str:
        return subprocess.run(
            ["chromium", *flags, *arguments, page.as_uri()],
            capture_output=True,
            text=True,
            check=True,
            timeout=200,
        ).stdout

    measure = """
<script>
addEventListener("load", () => {
  const images = [...document.images].map(i => i.complete && i.naturalWidth > 0);
  const figures = [...document.querySelectorAll("svg[role=img]")]
    .map(f => f.getBoundingClientRect().width > 100);
  document.body.dataset.found = JSON.stringify({
    images, figures,
    over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    verdict: document.querySelector("#verdict").getBoundingClientRect().top,
    colour: getComputedStyle(document.querySelector("#verdict strong")).color,
  });
});
</script>
"""
    page.write_text(made().replace("</body>", f"{measure}</body>"))
    dom = chromium("--window-size=1000,900", "--dump-dom")
    found = re.search(r'data-found="(.*?)"', dom)[1].replace("&quot;", '"')
    assert '"images":[true,true,true]' in found
    assert '"figures":[true,true,true]' in found
    assert '"over":0' in found  # nothing beyond the window's edge
    assert float(re.search(r'"verdict":([\d.]+)', found)[1]) < 200
    assert "rgb(42, 125, 70)" in found
    picture = tmp_path / "page.png"
    chromium("--window-size=1000,900", f"--screenshot={picture}")
    from PIL import Image

    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert pixels.shape == (900, 1000, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
