"""Power by OpenSTA from the activity of every pin, to hold beside the sum of the library's tables.

This OpenSTA (Debian's, of 2019) reads no activity files, and its command for pins has an error, so
the script calls what is under the command. Three of its habits are worked around:

- It propagates activities from the ports through logic, over what was set. So each bit of an input
  port gets a probe, a register of its own that drives what the port drove: nothing is propagated
  past a register once all pins are set.
- A pin on the clock has two edges a cycle for it, gated or not. So each register is measured with
  its other pins at rest as well, which leaves what its clock takes; of that, the share of cycles in
  which its clock runs is counted.
- An output without a net is no pin. So those of registers get one.

What is left out on both sides: the clock's nets and the cells that gate it, which cannot be told
what they do, and the probes. What is comparable: nets and leakage agree to a thousandth; ``inside``
does not, since this version takes the energies of a rising and a falling edge together for every
edge, where our sum takes their mean (and where states or related pins have tables of their own, it
adds them with a share each that need not sum to 1).
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace

from sim.build import BuildError
from sim.gates import power
from sim.gates.liberty import Library
from sim.gates.simulation import Activity
from sim.gates.synthesis import Instance, Netlist, gate_pins
from sim.gates.timing import CLOCK, cell_name, run_sta, structural
from sim.technology import MemoryTechnology

PROBE = "gyre_probe"
DUTY = 0.5
"""Share of the time that a net is 1: only that of the clock gates' enables is counted."""

_SCRIPT = """\
read_liberty cells.lib
read_liberty memories.lib
read_verilog netlist.v
link_design {top}
create_clock -name {clock} -period {period} [get_ports {clock}]
set corner [sta::cmd_corner]
proc edges {{a_cycle duty names}} {{
  foreach name $names {{
    sta::set_power_pin_activity [sta::find_pin $name] $a_cycle $duty
  }}
}}
proc watts {{kind names}} {{
  global corner
  set internal 0.0
  set switching 0.0
  set leakage 0.0
  foreach name $names {{
    set found [sta::instance_power [sta::find_instance $name] $corner]
    set internal [expr $internal + [lindex $found 0]]
    set switching [expr $switching + [lindex $found 1]]
    set leakage [expr $leakage + [lindex $found 2]]
  }}
  puts "watts $kind $internal $switching $leakage"
}}
{script}
exit
"""


@dataclass(frozen=True)
class Sum:
    """Joules a frame of logic and registers, without the clock's nets and gates.

    ``nets`` is that of the nets that switch, ``inside`` that inside the cells that drive them or
    see them switch, ``clock`` that of the clock's edges inside registers, ``leakage`` that of the
    same cells.
    """

    nets: float
    inside: float
    clock: float
    leakage: float


def compare(
    netlist: Netlist,
    library: Library,
    memory: MemoryTechnology,
    activity: Activity,
    period: float,
    *,
    wires: bool = False,
) -> tuple[Sum, Sum]:
    """The sum by OpenSTA and the one by the library's tables, under a clock of ``period`` seconds.

    With ``wires`` OpenSTA's has the statistical wires of the library's default wire load.

    Raises BadInput if there is no OpenSTA, BuildError if it fails or says no power.
    """
    probed = with_probes(netlist, library)
    logic = [
        cell_name(cell, n)
        for n, cell in enumerate(netlist.cells)
        if _kind(library, cell) == "logic"
    ]
    registers = _by_share(netlist, library, activity)
    lines = [f"edges 0 {DUTY} {{{' '.join(_pins(probed))}}}"]
    lines += [_watts(f"rest {share!r}", names) for share, names in registers.items()]
    lines += _edges(probed, library, activity)
    lines += [_watts(f"register {share!r}", names) for share, names in registers.items()]
    lines.append(_watts("logic 1.0", logic))
    script = _SCRIPT.format(
        top=netlist.top, clock=CLOCK, period=period / library.time, script="\n".join(lines)
    )
    text = run_sta(script, netlist, library, memory, structural(probed), wires=wires)
    seconds = activity.cycles * period / activity.frames
    nets = inside = clock = leakage = 0.0
    for kind, share, *words in re.findall(r"^watts (\w+) (\S+) (\S+) (\S+) (\S+)$", text, re.M):
        internal, switching, leaking = (float(word) * seconds for word in words)
        if kind == "rest":
            inside -= internal
            clock += float(share) * internal
        else:
            nets += switching
            inside += internal
            leakage += leaking
    if not 0 < nets < math.inf:
        raise BuildError(f"sta says no power:\n{text.strip()[-2000:]}")
    return Sum(nets, inside, clock, leakage), _own(netlist, library, memory, activity, period)


def _own(
    netlist: Netlist,
    library: Library,
    memory: MemoryTechnology,
    activity: Activity,
    period: float,
) -> Sum:
    pin = memory.input_pin.range.typical
    parts = power.measure(netlist, library, activity, period, pin, clock_nets=False)
    energy = sum((part.energy for part in parts.values()), power.Energy())
    gated = _running(netlist, library, activity)
    driven = {
        nets[0]
        for cell in netlist.cells
        for name, nets in cell.pins.items()
        if nets and library.cells[cell.kind].pins[name].direction == "output"
    }
    swing = 0.5 * library.voltage**2 * library.energy / activity.frames
    nets = swing * sum(
        activity.toggles.get(net, 0) * load
        for net, load in power.loads(netlist, library, pin).items()
        if net in driven and net not in gated
    )
    return Sum(nets, energy.switching - nets, energy.clock, energy.leakage)


def with_probes(netlist: Netlist, library: Library) -> Netlist:
    """The netlist with a probe at each bit of the input ports but the clock, after all other cells.

    Outputs of registers that drive nothing get nets.
    """
    clock = netlist.ports[CLOCK][1][0]
    free = max(netlist.nets) + 1
    cells = []
    for cell in netlist.cells:
        pins, kind = dict(cell.pins), library.cells[cell.kind]
        for pin in kind.outputs if kind.flip_flop is not None else []:
            if not pins.get(pin):
                pins[pin], free = [free], free + 1
        cells.append(replace(cell, pins=pins))
    form = library.flip_flop
    ff = form.flip_flop
    out = next(pin for pin in form.outputs if form.pins[pin].function == ff.state)
    ports = dict(netlist.ports)
    for name, (direction, bits) in netlist.ports.items():
        if direction == "input" and name != CLOCK:
            pins = [
                {ff.clocked_on: [clock], ff.next_state: [clock], out: [bit]}
                for bit in bits
                if isinstance(bit, int)
            ]
            cells += [Instance((PROBE,), form.name, some, {}) for some in pins]
            ports[name] = direction, list(range(free, free + len(bits)))
            free += len(bits)
    return replace(netlist, ports=ports, cells=cells)


def _kind(library: Library, cell: Instance) -> str:
    """What a cell is: ``logic``, a ``register`` or a ``gate`` of a clock."""
    kind = library.cells[cell.kind]
    if kind.clock_gate:
        return "gate"
    return "logic" if kind.flip_flop is None else "register"


def _watts(kind: str, names: list[str]) -> str:
    return f"watts {{{kind}}} {{{' '.join(names)}}}"


def _running(netlist: Netlist, library: Library, activity: Activity) -> dict[int | str, int]:
    """Cycles in which a gated clock runs, by its net."""
    if library.clock_gate is None:
        return {}
    _, enable, out = gate_pins(library)
    return {
        cell.pins[out][0]: activity.high[cell.pins[enable][0]]
        for cell in netlist.cells
        if _kind(library, cell) == "gate"
    }


def _by_share(netlist: Netlist, library: Library, activity: Activity) -> dict[float, list[str]]:
    """Names of the registers by the share of cycles in which their clock runs."""
    running = _running(netlist, library, activity)
    found: dict[float, list[str]] = defaultdict(list)
    for n, cell in enumerate(netlist.cells):
        if _kind(library, cell) == "register":
            ff = library.cells[cell.kind].flip_flop
            share = running.get(cell.pins[ff.clocked_on][0], activity.cycles) / activity.cycles
            found[share].append(cell_name(cell, n))
    return dict(found)


def _pins(netlist: Netlist) -> list[str]:
    """All pins of cells that are no constants, outputs of gated clocks and clocks among them."""
    return [
        f"{cell_name(cell, n)}/{pin}"
        for n, cell in enumerate(netlist.cells)
        for pin, nets in cell.pins.items()
        if nets and isinstance(nets[0], int)
    ]


def _edges(netlist: Netlist, library: Library, activity: Activity) -> list[str]:
    """Lines that set the pins of a netlist with probes, those of equal activity together."""
    cycles = activity.cycles
    toggles: dict[int | str, int] = dict(activity.toggles)
    high: dict[int | str, float] = {}
    for cell in netlist.cells:
        kind = library.cells[cell.kind]
        if kind.clock_gate:
            enable = cell.pins[gate_pins(library)[1]][0]
            high[enable] = activity.high[enable]
        elif kind.flip_flop is not None and cell.path != (PROBE,):
            nets = [cell.pins[pin][0] for pin in kind.outputs if cell.pins.get(pin)]
            for net in nets:  # an output that drives nothing toggles too
                toggles[net] = max(activity.toggles.get(other, 0) for other in nets)
    groups: dict[tuple[float, float], list[str]] = defaultdict(list)
    for n, cell in enumerate(netlist.cells):
        for pin, nets in cell.pins.items():
            if nets and isinstance(nets[0], int):
                share = high.get(nets[0], DUTY * cycles) / cycles
                groups[toggles.get(nets[0], 0) / cycles, share].append(
                    f"{cell_name(cell, n)}/{pin}"
                )
    return [
        f"edges {rate:g} {share:g} {{{' '.join(names)}}}" for (rate, share), names in groups.items()
    ]
