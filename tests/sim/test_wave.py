"""Waveforms: the chosen stages, the chosen frames, and what was really on the streams."""

import re
from pathlib import Path

import pytest
import torch

from hdl.accelerator import Accelerator
from hdl.verilog import generate_accelerator
from model import golden
from model.ir.planner import Budget, plan
from sim.wave import check_stages, record_wave, trace_arguments
from tests.examples import small_network
from tests.tools import refused, require_tools

NETWORK = small_network(7, True)
ACCELERATOR = Accelerator(NETWORK, plan(NETWORK, Budget(3)))


def read_vcd(path: Path) -> tuple[dict[str, list[str]], dict[str, list[tuple[int, str]]]]:
    """Variables of a VCD by their path (their codes), and the changes of each code."""
    codes: dict[str, list[str]] = {}
    changes: dict[str, list[tuple[int, str]]] = {}
    scope, now = [], 0
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "$scope":
            scope.append(words[2])
        elif words[0] == "$upscope":
            scope.pop()
        elif words[0] == "$var":
            codes.setdefault(".".join([*scope, words[4]]), []).append(words[3])
        elif words[0].startswith("#"):
            now = int(words[0][1:])
        elif words[0][0] == "b":
            changes.setdefault(words[1], []).append((now, words[0][1:]))
        elif words[0][0] in "01":
            changes.setdefault(words[0][1:], []).append((now, words[0][0]))
    return codes, changes


@pytest.mark.rtl
def test_shows_the_outputs_of_the_chosen_frames_and_the_chosen_stage_alone(tmp_path: Path) -> None:
    require_tools("g++")
    codes = torch.randint(-16, 16, (3, 7), generator=torch.Generator().manual_seed(2))
    text = generate_accelerator(ACCELERATOR).verilog
    whole, streams = tmp_path / "whole.vcd", tmp_path / "streams.vcd"
    assert record_wave(ACCELERATOR, codes, whole, ["fc"], verilog=text) is None
    assert record_wave(ACCELERATOR, codes[:1], streams, [], verilog=text) is None
    found, changes = read_vcd(whole)
    few, fewer = read_vcd(streams)
    below = [name for name in found if ".accelerator.fc." in name]
    assert len(below) > 20
    assert not [name for name in few if ".accelerator.fc." in name]
    assert not [name for name in (*found, *few) if ".source." in name or ".sink." in name]

    def at(values: dict, code: str, time: int) -> int:
        return int([value for when, value in values[code] if when <= time][-1], 2)

    def outputs(codes_of: dict, values: dict) -> list[int]:
        """Codes of all transfers of the output stream, at the rising edges of the clock."""
        port = {
            name: next(v[0] for k, v in codes_of.items() if k.endswith(f".accelerator.{name}"))
            for name in ("clk", "o__valid", "o__ready", "o__payload")
        }
        lanes = ACCELERATOR.mapping.lanes(NETWORK, "fc")
        bits, out = NETWORK.format("fc").bits, []
        for time, value in values[port["clk"]]:
            before = time - 1
            moves = value == "1" and before > 0
            if (
                moves
                and at(values, port["o__valid"], before)
                and at(values, port["o__ready"], before)
            ):
                word = at(values, port["o__payload"], before)
                for lane in range(lanes):
                    code = word >> (bits * lane) & ((1 << bits) - 1)
                    out.append(code - (code >> (bits - 1) << bits))
        return out

    expected = golden.run(NETWORK, codes)
    lanes = ACCELERATOR.mapping.lanes(NETWORK, "fc")
    assert lanes == 1
    assert outputs(found, changes) == expected.flatten().tolist()
    assert outputs(few, fewer) == expected[0].tolist()


def test_arguments_name_the_streams_and_the_stages() -> None:
    found = trace_arguments(Path("/x/wave.vcd"), ["fc"])
    assert found[:2] == ["--trace-file", "/x/wave.vcd"]
    assert re.findall(r"\d+:\S+", " ".join(found)) == [
        "1:gyre_top.harness.accelerator",
        "99:gyre_top.harness.accelerator.fc",
    ]


def test_stage_that_is_none_is_named() -> None:
    error = refused(lambda: check_stages(ACCELERATOR, ["fc", "fc9"]))
    assert (error.thing, error.found) == ("--wave", "'fc9'")
    assert error.expected == "all, or some of fc"
