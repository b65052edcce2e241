"""Verilog to a simulator, cached by content.

Verilator translates; we compile what it writes with our own few calls of the compiler. Verilator's
runtime, the same for every design, is compiled once into an archive. Only the ports of the top are
public: that is three times faster to build and six times faster to run than making every signal
public, as cocotb's own build step does.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from model.ir.checksums import sha256
from model.ir.errors import BadInput
from sim.toolchain import Toolchain, cocotb_libs, toolchain

WAIVERS = Path(__file__).with_name("waivers.vlt")
MAIN = Path(__file__).with_name("main.cpp")
BARE_MAIN = Path(__file__).with_name("bare.cpp")
RUNTIME = ("verilated", "verilated_dpi", "verilated_vpi", "verilated_threads")
TRACE_RUNTIME = (*RUNTIME, "verilated_vcd_c")

VERILATOR_FLAGS = [
    *("--cc", "--exe", "--no-timing", "--vpi", "--prefix", "Vtop", "-O3"),
    *("--x-assign", "unique", "--x-initial", "unique", "--output-split", "30000"),
]
CXX_FLAGS = ["-std=c++20", "-fPIC", "-w"]
JOIN_BYTES = 200_000
OPTIMIZE = "-O1"
"""As fast as -O3 when the model runs, and half the time to build."""


class BuildError(RuntimeError):
    """A tool failed on generated sources: a defect of the generator, with the tool's words."""


def build_root() -> Path:
    """Folder for everything that can be made again: ``$GYRE_BUILD``, or ``build`` here."""
    return Path(os.environ.get("GYRE_BUILD", "build")).resolve()


def build(
    verilog: str,
    top: str,
    public: Sequence[str],
    *,
    trace: bool = False,
    bare: bool = False,
    quick: bool = False,
    sources: Sequence[Path] = (),
    clock: str = "clk",
) -> tuple[Path, bool]:
    """Build a simulator and return its folder, and whether it was there already.

    Parameters
    ----------
    verilog : str
        The whole design; the main program drives the top's input ``clock``.
    top : str
        Name of the top module, and of the executable in the folder.
    public : sequence of str
        Signals of the top that test benches may touch.
    trace : bool
        Able to write a VCD.
    bare : bool
        Add the executable ``bare``, the same model without cocotb.
    quick : bool
        For runs of a few thousand cycles: built in two thirds of the time, and slow.
    sources : sequence of Path
        C++ files that the Verilog calls (DPI).
    clock : str
        Name of the top's clock.

    The key covers the Verilog, the control file, the main programs, the flags and the versions of
    all tools. A build happens in a scratch folder that is renamed at the end, so neither a crash
    nor two builds at once can leave half a simulator.
    """
    tools = toolchain()
    level = "-O0" if quick else OPTIMIZE
    control = WAIVERS.read_text() + "".join(
        f'public_flat_rw -module "{top}" -var "{name}"\n' for name in public
    )
    flags = [*VERILATOR_FLAGS, "--top-module", top, *(["--trace-vcd"] if trace else [])]
    if sources:  # gates: much text of which each piece is simple, so few large units
        flags += ["--output-split", "400000"]
    parts = [verilog, control, " ".join([*flags, *CXX_FLAGS, level, clock]), tools.versions]
    parts += [
        Path(__file__).read_text(),
        BARE_MAIN.read_text() if bare else "",
        MAIN.read_text(),
        *(source.read_text() for source in sources),
    ]
    key = sha256("\0".join(parts).encode())[:24]
    folder = build_root() / "simulators" / key
    if (folder / top).exists():
        return folder, True
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if (folder / top).exists():  # another process has built the same meanwhile
            return folder, True
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{key}-"))
        try:
            _build(tools, scratch, verilog, control, flags, top, trace, bare, level, sources, clock)
            os.replace(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder, False


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Only one process at a time makes a target; the others wait for what it makes."""
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(
    tools: Toolchain,
    folder: Path,
    verilog: str,
    control: str,
    flags: list[str],
    top: str,
    trace: bool,
    bare: bool,
    level: str,
    sources: Sequence[Path],
    clock: str,
) -> None:
    (folder / "design.v").write_text(verilog)
    (folder / "control.vlt").write_text(control)
    runtime = _runtime(tools, trace)
    environment = os.environ | {"VERILATOR_ROOT": str(tools.verilator_root)}
    command = [*tools.verilator, *flags, "-Mdir", "model", "control.vlt", "design.v"]
    _call(command, folder, environment)
    model = folder / "model"
    units = _units(model, level)
    jobs = [(unit, model / f"{unit.stem}.o", optimize) for unit, optimize in units]
    jobs += [(source, model / f"own_{source.stem}.o", "-O2") for source in sources]
    jobs.append((MAIN, folder / "main.o", level))
    if bare:
        jobs.append((BARE_MAIN, folder / "bare.o", level))
    _compile(tools, jobs, model, trace, clock)
    objects = [str(job[1]) for job in jobs if job[1].parent == model]
    libs = cocotb_libs()
    link = [tools.cxx, "-o", top, "main.o", *objects, str(runtime), "-pthread", "-rdynamic"]
    link += [f"-Wl,-rpath,{libs}", f"-L{libs}", "-lcocotbvpi_verilator"]
    _call(link, folder, environment)
    if bare:
        link = [tools.cxx, "-o", "bare", "bare.o", *objects, str(runtime), "-pthread"]
        _call(link, folder, environment)
    shutil.rmtree(model)


def _units(model: Path, level: str) -> list[tuple[Path, str]]:
    """Translation units of a model, and how to optimize them, the largest first.

    Each unit costs about a second for its headers alone, so small files are joined; what runs only
    once, before the first cycle, is not optimized.
    """
    units: list[tuple[Path, str]] = []
    joined: dict[str, list[Path]] = {level: [], "-O0": []}
    for path in sorted(model.glob("*.cpp")):
        slow = "__Slow" in path.name
        optimize = "-O0" if slow else level
        if path.stat().st_size > JOIN_BYTES and not slow:
            units.append((path, optimize))
        else:
            joined[optimize].append(path)
    for optimize, paths in joined.items():
        whole = model / f"joined{optimize}.cpp"
        whole.write_text("".join(f'#include "{path.name}"\n' for path in paths))
        units.append((whole, optimize))
    return sorted(units, key=lambda unit: (unit[1] == "-O0", -unit[0].stat().st_size))


def _runtime(tools: Toolchain, trace: bool) -> Path:
    """Verilator's runtime as an archive, compiled once for a version of the tools."""
    key = sha256("\0".join([tools.versions, *CXX_FLAGS, str(trace)]).encode())[:12]
    archive = build_root() / "simulators" / f"runtime-{key}.a"
    with _alone(archive):
        if not archive.exists():
            _build_runtime(tools, trace, archive)
    return archive


def _build_runtime(tools: Toolchain, trace: bool, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".runtime-") as scratch:
        names = TRACE_RUNTIME if trace else RUNTIME
        include = tools.verilator_root / "include"
        jobs = [(include / f"{n}.cpp", Path(scratch) / f"{n}.o", "-O2") for n in names]
        _compile(tools, jobs, Path(scratch), trace)
        objects = [str(job[1]) for job in jobs]
        part = Path(scratch) / "runtime.a"
        _call(["ar", "rcs", str(part), *objects], Path(scratch), dict(os.environ))
        os.replace(part, archive)


def _compile(
    tools: Toolchain,
    jobs: list[tuple[Path, Path, str]],
    include: Path,
    trace: bool,
    clock: str = "clk",
) -> None:
    root = tools.verilator_root / "include"
    defines = [f"-DVM_{name}=0" for name in ("COVERAGE", "SC", "TRACE_FST", "TRACE_SAIF")]
    defines += [f"-DVM_TRACE={int(trace)}", f"-DVM_TRACE_VCD={int(trace)}", "-DVM_TIMING=0"]
    defines.append(f"-DGYRE_CLOCK={clock}")
    common = [*CXX_FLAGS, *defines, f"-I{include}", f"-I{root}", f"-I{root / 'vltstd'}"]

    def one(job: tuple[Path, Path, str]) -> None:
        source, target, optimize = job
        command = [tools.cxx, "-c", optimize, *common, "-o", str(target), str(source)]
        _call(command, include, dict(os.environ))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, jobs))


def _call(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BadInput(
            f"tool {command[0]}", error.strerror, "a program that can be run", "install it"
        ) from error
    if done.returncode:
        words = (done.stdout + done.stderr).strip().splitlines()
        text = "\n".join(words[:40])
        raise BuildError(f"{Path(command[0]).name} failed with status {done.returncode}:\n{text}")
