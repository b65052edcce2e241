"""Energy of a netlist: what its nets did, times the library's tables.

Per net, each toggle charges or discharges the pins that it drives, ``C V^2 / 2``, and takes the
driving cell's ``internal_power``. Per register, each edge of its clock takes what the library says
of the clock pin; so does a clock gate, at every edge of the clock in front of it. Leakage is that
of every cell over the time of a frame. Wires have no capacitance here, and the clock has no tree.
"""

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean

from sim.gates.function import to_verilog
from sim.gates.liberty import Cell, Library, Pin
from sim.gates.simulation import Activity
from sim.gates.synthesis import RAM, ROM, Netlist, gate_pins


@dataclass(frozen=True)
class Energy:
    """Joules a frame: of nets and cells that switch, of the clock at registers, of leakage."""

    switching: float = 0.0
    clock: float = 0.0
    leakage: float = 0.0

    def __add__(self, other: "Energy") -> "Energy":
        return Energy(
            self.switching + other.switching,
            self.clock + other.clock,
            self.leakage + other.leakage,
        )

    @property
    def total(self) -> float:
        """All of it."""
        return self.switching + self.clock + self.leakage


@dataclass(frozen=True)
class Part:
    """A module of the netlist: its ``cells``, ``registers``, ``area`` in um2 and ``energy``."""

    cells: int = 0
    registers: int = 0
    area: float = 0.0
    energy: Energy = Energy()

    def __add__(self, other: "Part") -> "Part":
        return Part(
            self.cells + other.cells,
            self.registers + other.registers,
            self.area + other.area,
            self.energy + other.energy,
        )


def measure(
    netlist: Netlist,
    library: Library,
    activity: Activity | None,
    period: float,
    memory_pin: float = 0.0,
    *,
    clock_nets: bool = True,
) -> dict[tuple[str, ...], Part]:
    """Cells, area and energy a frame of each module, by its path.

    Parameters
    ----------
    activity : Activity or None
        None: no energies.
    period : float
        Seconds of a cycle.
    memory_pin : float
        Farads of an input of a memory.
    clock_nets : bool
        False: without the energy of the clock's nets and of the cells that gate it.
    """
    pin_loads = loads(netlist, library, memory_pin)
    parts: dict[tuple[str, ...], Part] = defaultdict(Part)
    clocks = {}
    if activity is not None:
        (root,) = netlist.ports["clk"][1]
        clocks[root] = activity.cycles
        if library.clock_gate is not None:
            _, enable, out = gate_pins(library)
            for cell in netlist.cells:
                if cell.kind == library.clock_gate.name:
                    clocks[cell.pins[out][0]] = activity.high[cell.pins[enable][0]]
    for instance in netlist.cells:
        cell, energy = library.cells[instance.kind], Energy()
        if activity is not None:
            pins = {name: nets[0] for name, nets in instance.pins.items() if nets}
            leaking = cell.leakage * library.leakage_unit * activity.cycles * period
            if cell.clock_gate:
                switching, clock = _gate(cell, library, pins, pin_loads, activity, clocks)
                if not clock_nets:
                    switching = clock = leaking = 0.0
            elif cell.flip_flop is not None:
                switching, inner, nets = _register(cell, library, pins, pin_loads, activity, clocks)
                clock = inner + nets if clock_nets else inner
            else:
                switching, clock = _logic(cell, library, pins, pin_loads, activity), 0.0
            joules = (switching, clock, leaking)
            energy = Energy(*(value / activity.frames for value in joules))
        register = int(cell.flip_flop is not None)
        parts[instance.path] += Part(1, register, cell.area, energy)
    return dict(parts)


def loads(netlist: Netlist, library: Library, memory_pin: float) -> dict[int | str, float]:
    """Capacitance of the pins that each net drives, in the library's unit."""
    found: dict[int | str, float] = defaultdict(float)
    for instance in netlist.cells:
        cell = library.cells[instance.kind]
        for name, nets in instance.pins.items():
            if nets and cell.pins[name].direction == "input":
                found[nets[0]] += cell.pins[name].capacitance
    for memory in netlist.memories:
        for name, nets in memory.pins.items():
            if name not in ("data", "rd", "clk"):
                for net in nets:
                    found[net] += memory_pin / library.capacitance
    return found


def _output(pin: Pin, library: Library, load: float) -> float:
    """Joules of a toggle of an output pin."""
    swing = 0.5 * load * library.voltage**2
    return (swing + pin.edge(load)) * library.energy


def _logic(cell: Cell, library: Library, pins, loads, activity: Activity) -> float:
    joules = 0.0
    for name, net in pins.items():
        toggles = activity.toggles.get(net, 0)
        pin = cell.pins[name]
        if pin.direction == "output":
            joules += toggles * _output(pin, library, loads.get(net, 0.0))
        else:
            joules += toggles * pin.edge() * library.energy
    return joules


def _register(cell: Cell, library: Library, pins, loads, activity: Activity, clocks):
    """Joules of a flip-flop: its data, its clock inside it, and the net of its clock."""
    ff = cell.flip_flop
    assert ff is not None
    toggles = max((activity.toggles.get(pins[p], 0) for p in cell.outputs if p in pins), default=0)
    data, clock = pins[ff.next_state], cell.pins[ff.clocked_on]
    joules = activity.toggles.get(data, 0) * cell.pins[ff.next_state].edge() * library.energy
    for name in cell.outputs:  # an output that drives nothing toggles too
        joules += toggles * _output(cell.pins[name], library, loads.get(pins.get(name), 0.0))
    cycles = clocks[pins[ff.clocked_on]]
    swing = clock.capacitance * library.voltage**2
    changing, keeping = (_clock_edges(clock, ff, changes) for changes in (True, False))
    inner = min(toggles, cycles) * changing + max(cycles - toggles, 0) * keeping
    return joules, inner * library.energy, cycles * swing * library.energy


def _clock_edges(clock: Pin, ff, changes: bool) -> float:
    """Energy of both edges of a register's clock while its state changes, or keeps."""
    found = []
    for power in clock.powers:
        states = [(d, d ^ changes) for d in (0, 1)]
        fits = [_holds(power.when, _values(ff, d, q)) for d, q in states]
        if any(fits):
            found.append(2 * power.mean())
    return fmean(found) if found else 0.0


def _values(ff, d: int, q: int) -> dict[str, int]:
    return {ff.next_state: d, ff.state: q, ff.inverse: 1 - q, "Q": q, "QN": 1 - q, "Q_N": 1 - q}


def _holds(when: str, values: dict[str, int]) -> bool:
    """Whether a state is possible; pins that are not told of may have any value."""
    if not when:
        return True
    free: set[str] = set()

    def name(pin: str) -> str:
        if pin not in values:
            free.add(pin)
        return pin

    text = to_verilog(when, name)
    for n in range(1 << len(free)):
        more = {pin: n >> k & 1 for k, pin in enumerate(sorted(free))}
        if eval(text.replace("1'b", ""), {}, values | more) & 1:
            return True
    return False


def _gate(cell: Cell, library: Library, pins, loads, activity: Activity, clocks):
    """Joules of the enable, and of the clock on either side, of a clock gate."""
    clock, enable, out = gate_pins(library)
    joules = activity.toggles.get(pins[enable], 0) * cell.pins[enable].edge() * library.energy
    passed = activity.high[pins[enable]]
    cycles = clocks.get(pins[clock], activity.cycles)
    swing = cycles * cell.pins[clock].capacitance * library.voltage**2
    inner = 0.0
    for value, count in ((1, passed), (0, cycles - passed)):
        powers = [p for p in cell.pins[clock].powers if _holds(p.when, {enable: value})]
        inner += count * 2 * fmean(p.mean() for p in powers) if powers else 0.0
    # What the gated clock drives is counted where it arrives; here only what is inside.
    inner += 2 * passed * cell.pins[out].edge(loads.get(pins[out], 0.0))
    return joules, (swing + inner) * library.energy


@dataclass(frozen=True)
class Access:
    """A memory: its size, and bits read and written a frame."""

    name: str
    path: tuple[str, ...]
    width: int
    depth: int
    reads: float
    read_bits: float
    written_bits: float

    @property
    def bits(self) -> int:
        """Bits that it holds."""
        return self.width * self.depth


def accesses(netlist: Netlist, activity: Activity | None) -> list[Access]:
    """Every memory, with what a frame reads and writes."""
    from sim.gates.synthesis import parameter

    found = []
    for memory in netlist.memories:
        width, depth = parameter(memory, "WIDTH"), parameter(memory, "DEPTH")
        reads = written = 0.0
        if activity is not None:
            (read,) = memory.pins["en" if memory.kind == ROM else "re"]
            reads = activity.high[read] / activity.frames
            if memory.kind == RAM:
                written = sum(activity.high[net] for net in memory.pins["we"]) / activity.frames
        name = ".".join(memory.path)
        found.append(Access(name, memory.path, width, depth, reads, reads * width, written))
    return sorted(found, key=lambda access: access.name)
