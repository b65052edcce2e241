"""The AXI shell as data: its registers, and how codes lie in the bytes of a stream.

Hardware, manifest, test benches and documentation read the register map from here.
"""

from dataclasses import dataclass

from model.ir.numerics import Format

VERSION = (1, 0)
"""Major and minor number of the register map; the major one changes if old software must too."""

IDENTITY = int.from_bytes(b"GYRE", "big")

ADDRESS_BITS = 12
"""Bits of a byte address of the AXI4-Lite port."""

PROGRAM = range(0x800, 0x1000)
"""Byte addresses of the programming port of arrays in memory. A shell without one answers SLVERR
there."""

PROGRAM_WORDS = 496
"""Most words of a row: those of 1024 columns and a reference column of 15 bits fit."""

COUNTER_BITS = 48
"""Bits of a counter of cycles: at 100 MHz it wraps after 32 days."""

OKAY, SLVERR = 0, 2
"""Responses of AXI4-Lite."""


@dataclass(frozen=True)
class Field:
    """Some bits of a register.

    Parameters
    ----------
    name : str
    low, bits : int
        Place of the lowest bit, and how many there are.
    access : str
        ``ro`` (read), ``rw`` (read and write), ``w1c`` (write 1 to clear), ``wo`` (write; reads 0)
        or ``pulse`` (write 1 to act once; reads 0).
    reset : int
        Value after reset.
    meaning : str
    """

    name: str
    low: int
    bits: int
    access: str
    reset: int
    meaning: str

    @property
    def mask(self) -> int:
        """The bits of the field in a word."""
        return ((1 << self.bits) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """A word of 32 bits, or ``words`` of them in a row.

    Parameters
    ----------
    name : str
    offset : int
        Byte address.
    meaning : str
    fields : tuple of Field
        Empty for a register that is one number.
    words : int
    access : str
        Of a register that is one number: ``ro``, ``rw`` or ``wo``, as a field has it.
    """

    name: str
    offset: int
    meaning: str
    fields: tuple[Field, ...] = ()
    words: int = 1
    access: str = "ro"

    @property
    def writable(self) -> bool:
        """Whether a write is answered with OKAY."""
        return self.access != "ro" or any(field.access != "ro" for field in self.fields)

    def field(self, name: str) -> Field:
        """The field of that name."""
        return {field.name: field for field in self.fields}[name]


REGISTERS = (
    Register("identity", 0x000, '"GYRE" in ASCII, the first letter in the highest byte'),
    Register(
        "version",
        0x004,
        "version of this register map",
        (
            Field("minor", 0, 16, "ro", VERSION[1], "grows when registers are added"),
            Field("major", 16, 16, "ro", VERSION[0], "grows when old software must change"),
        ),
    ),
    Register(
        "features",
        0x008,
        "what this shell has",
        (
            Field("program", 0, 1, "ro", 0, "a programming port from 0x800 on"),
            Field("marks", 1, 1, "ro", 0, "a recurrent network: TUSER carries the marks"),
        ),
    ),
    Register("input_beats", 0x00C, "transfers of an input frame"),
    Register("output_beats", 0x010, "transfers of an output frame"),
    Register("expected_cycles", 0x014, "cycles a frame of the slowest stage, by the formulas"),
    Register(
        "network_hash",
        0x020,
        "SHA-256 of the network, as it is printed: 8 hexadecimal digits a word",
        words=8,
    ),
    Register(
        "control",
        0x040,
        "what the shell shall do",
        (
            Field("enable", 0, 1, "rw", 1, "0: no further frame is taken; one begun is finished"),
            Field("interrupt", 1, 1, "rw", 0, "raise irq while a broken frame is flagged"),
            Field("clear", 8, 1, "pulse", 0, "set all counters to 0"),
        ),
    ),
    Register(
        "status",
        0x044,
        "what the shell does, and what happened",
        (
            Field("busy", 0, 1, "ro", 0, "a whole frame is inside, or a part of its result"),
            Field("receiving", 1, 1, "ro", 0, "a frame has begun to enter and has not ended"),
            Field("short", 8, 1, "w1c", 0, "a frame ended too early and was dropped"),
            Field("long", 9, 1, "w1c", 0, "a frame did not end where it should and was dropped"),
        ),
    ),
    Register("frames_in", 0x050, "whole frames taken"),
    Register("frames_out", 0x054, "frames given"),
    Register("short_frames", 0x058, "frames dropped that ended too early"),
    Register("long_frames", 0x05C, "frames dropped that did not end where they should"),
    Register("cycles", 0x060, "cycles with status.busy, low word; reading it holds the high word"),
    Register("cycles_high", 0x064, "its high word, as it was when the low word was read"),
    Register("stalls_in", 0x068, "cycles in which input waited (TVALID without TREADY), low word"),
    Register("stalls_in_high", 0x06C, "its high word, held as above"),
    Register("stalls_out", 0x070, "cycles in which output waited, low word"),
    Register("stalls_out_high", 0x074, "its high word, held as above"),
)

PROGRAM_REGISTERS = (
    Register("program_layers", 0x800, "layers whose cells can be written"),
    Register("program_layer", 0x804, "the layer that is meant, in network order", access="rw"),
    Register("program_macro", 0x808, "the macro that is meant, of the layer's", access="rw"),
    Register("program_row", 0x80C, "the row that is meant, of the macro's", access="rw"),
    Register("program_macros", 0x810, "macros of the layer that is meant; 0: there is no such one"),
    Register("program_rows", 0x814, "rows of each of its macros"),
    Register("program_columns", 0x818, "columns of a row, a reference column included"),
    Register("program_level_bits", 0x81C, "bits of the level of a cell"),
    Register(
        "program_control",
        0x820,
        "what the port shall do",
        (Field("start", 0, 1, "pulse", 0, "write the row that is meant"),),
    ),
    Register(
        "program_status",
        0x824,
        "what the port does, and what happened",
        (
            Field("busy", 0, 1, "ro", 0, "a row is being written"),
            Field("done", 1, 1, "ro", 0, "the row started last is written, for good or not"),
            Field("failed", 2, 1, "ro", 0, "it differs from what was wanted after all attempts"),
            Field("range", 8, 1, "w1c", 0, "refused: no such layer, macro or row"),
            Field("in_flight", 9, 1, "w1c", 0, "refused: a frame was inside"),
            Field("overrun", 10, 1, "w1c", 0, "refused: a write to the port while it was busy"),
        ),
    ),
    Register("program_written", 0x828, "rows written, those that failed included"),
    Register("program_failures", 0x82C, "rows that failed"),
    Register("program_pulses", 0x830, "write pulses given, in all copies together"),
    Register("program_cycles", 0x834, "cycles with program_status.busy"),
    Register(
        "program_data",
        0x840,
        "the row's levels, as many words as the widest row has; each keeps what was written",
        words=PROGRAM_WORDS,
        access="wo",
    ),
)
"""The registers of the programming port, at the addresses ``PROGRAM``; only where there is one."""

WIDE = ("cycles", "stalls_in", "stalls_out")
"""Counters of ``COUNTER_BITS`` in two words."""


def register(name: str) -> Register:
    """The register of that name."""
    return {one.name: one for one in (*REGISTERS, *PROGRAM_REGISTERS)}[name]


def container_bits(format: Format) -> int:
    """Bits that a code takes in a stream of the shell: whole bytes, so that software need not pack.

    A code is in the lowest bits; the bits above it are ignored on the way in, and repeat the sign
    (or are 0) on the way out.
    """
    return 8 * -(-format.bits // 8)


def hash_words(digest: str) -> list[int]:
    """The words of ``network_hash`` for a digest in hexadecimal."""
    return [int(digest[place : place + 8], 16) for place in range(0, 64, 8)]


def to_json(data_words: int = 0) -> list[dict]:
    """The register map as plain data; with a programming port, whose rows have so many words."""
    ports = PROGRAM_REGISTERS if data_words else ()
    return [
        {
            "name": one.name,
            "offset": one.offset,
            "words": data_words if one.name == "program_data" else one.words,
            "access": "wo" if one.access == "wo" else "rw" if one.writable else "ro",
            "meaning": one.meaning,
        }
        | (
            {
                "fields": [
                    {
                        "name": field.name,
                        "low": field.low,
                        "bits": field.bits,
                        "access": field.access,
                        "reset": field.reset,
                        "meaning": field.meaning,
                    }
                    for field in one.fields
                ]
            }
            if one.fields
            else {}
        )
        for one in (*REGISTERS, *ports)
    ]


def table() -> str:
    """The register map as a table in Markdown, which the documentation holds."""
    return _table(REGISTERS)


def program_table() -> str:
    """The registers of the programming port as a table in Markdown, which is there too."""
    return _table(PROGRAM_REGISTERS)


def _table(registers: tuple[Register, ...]) -> str:
    lines = ["| offset | name | bits | access | reset | meaning |", "| --- |" + " --- |" * 5]
    for one in registers:
        end = one.offset + 4 * one.words - 4
        offset = f"0x{one.offset:03X}" + (f" to 0x{end:03X}" if one.words > 1 else "")
        kind = "| | |" if one.access == "ro" else f"| {one.access} | 0 |"
        lines.append(f"| {offset} | `{one.name}` | {kind} {one.meaning} |")
        for field in one.fields:
            top = field.low + field.bits - 1
            bits = str(field.low) if field.bits == 1 else f"{top}:{field.low}"
            lines.append(
                f"| | `{one.name}.{field.name}` | {bits} | {field.access} | {field.reset} | "
                f"{field.meaning} |"
            )
    return "\n".join(lines) + "\n"
