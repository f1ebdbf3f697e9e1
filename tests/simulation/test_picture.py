"""What a run is drawn as, and that it says what has happened."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from benchmarks.simulation.page import write_page
from benchmarks.simulation.picture import draw_picture
from benchmarks.simulation.record import write_record
from benchmarks.simulation.svg import Box, outline, steps
from benchmarks.simulation.tally import figures
from benchmarks.simulation.world import HOUR, draw
from benchmarks.simulation.years import Simulation

SVG = "{http://www.w3.org/2000/svg}"
BOX = Box(0, 0, 100, 100, 0, 10)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """That of a short run, as it is read from its file."""
    directory = tmp_path_factory.mktemp("picture")
    world = draw(0.5, 12, 1)
    tally = Simulation(world, directory, "1", tick=4 * HOUR).run(lambda now, orders: None)
    write_record(directory / "record.json", world, tally, figures(world, tally, 60.0))
    found: dict[str, Any] = json.loads((directory / "record.json").read_text())
    return found


def test_a_record_says_why_each_certificate_was_made_how_they_were_and_what_was_used_of_the_limits(
    record: dict[str, Any],
) -> None:
    made = record["certificates_by_week"]

    assert record["figures"]["orders"] == sum(map(sum, made.values())) + record["figures"]["failed_validations"]
    assert 12 == sum(made["First"])
    assert {"First", "SuggestedByCA", "LifetimeAction", "Incident"} == {*made}
    assert {12} == {sum(health.values()) for health in record["health_by_week"][13:-1]}
    used = record["most_used_by_week"]["certificates for the exact set of names"]
    assert 0 < max(used) < 1


def test_a_picture_has_title_description_and_every_part_of_the_story(record: dict[str, Any]) -> None:
    root = fromstring(draw_picture(record))
    words = [each.text or "" for each in root.iter(f"{SVG}text")]

    assert "0.5 years of 12 certificates, unattended" == _text(root, "title")
    assert f"{record['figures']['orders']:,} orders were made" in _text(root, "desc")
    assert ("img", "title desc") == (root.get("role"), root.get("aria-labelledby"))
    assert "prefers-color-scheme: dark" in _text(root, "style")
    assert {"Made each week", "Certificates", "Limits of the CAs", "The closest call", "2027"} <= {*words}
    drawn = [each.get("class") for each in root.iter()]
    assert len(record["outages"]) == drawn.count("outage")
    assert len(record["jumps"]) <= drawn.count("clock")
    for each in ("suggested", "planned", "first", "incident", "healthy", "used", "left", "struck"):
        assert each in drawn, each


def test_a_page_gets_the_figures_in_its_place_and_the_picture_beside_it(record: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "years.md"
    page.write_text("# Years\n\n<!-- figures -->\nold\n<!-- end of figures -->\n\nMore.\n")
    write_page(record, page)
    written = page.read_text()

    assert written.startswith("# Years\n\n<!-- figures -->\n| | |\n")
    assert written.endswith("|\n<!-- end of figures -->\n\nMore.\n")
    assert "| run by | `make simulate YEARS=0.5 CERTS=12` |" in written
    assert "old" not in written
    assert draw_picture(record) == (tmp_path / "years.svg").read_text()
    write_page(record, page)
    assert written == page.read_text()
    page.write_text("# Years\n")
    with pytest.raises(ValueError, match="no place for figures"):
        write_page(record, page)


def test_the_documented_picture_and_its_page_are_of_the_same_run() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "ten-years.md"
    described = _text(fromstring(page.with_suffix(".svg").read_text()), "desc")
    orders = re.match(r"([\d,]+) orders were made where ([\d,]+) are ideal", described)

    assert orders is not None
    assert f"| orders | {orders[1]}, where {orders[2]} are ideal |" in page.read_text()


def test_nothing_is_drawn_outside_of_the_picture(record: dict[str, Any]) -> None:
    root = fromstring(draw_picture(record))
    width, height = float(root.get("width", "")), float(root.get("height", ""))

    for each in root.iter(f"{SVG}rect"):
        x, y, wide, high = (float(each.get(name, "")) for name in ("x", "y", "width", "height"))
        assert 0 <= x, each.attrib
        assert x + wide <= width, each.attrib
        assert 0 <= y, each.attrib
        assert y + high <= height, each.attrib


def test_an_area_is_drawn_where_there_is_something_and_what_goes_straight_on_is_one_line() -> None:
    assert 'd="M25 100V50H75V100H25Z"' in steps(BOX, [0, 0, 0, 0], [0, 5, 5, 0], "x")
    assert 'd=""' in steps(BOX, [1, 1], [1, 1], "x")
    assert 'd="M0 100V0H100V100H0Z"' in steps(BOX, [0, 0], [99, 99], "x")


def test_a_line_goes_on_where_nothing_is_known() -> None:
    assert 'd="M25 50V50H75V0H100"' in outline(BOX, [None, 5, None, 10], "x")


def _text(root: Element, name: str) -> str:
    return root.findtext(f"{SVG}{name}") or ""
