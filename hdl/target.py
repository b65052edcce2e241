"""The Verilog target: repeated components become one module each, placed as instances.

Amaranth writes one module per instance of a component, with no sharing, which makes large arrays
slow to generate, to read and to simulate. The target is handed to ``elaborate`` as the platform; a
parent places a child with :func:`place`, and the child is converted once under its own name.
"""

import re
from pathlib import Path
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value, ValueCastable
from amaranth.lib import wiring


class VerilogTarget:
    """Collects the modules that a design is made of.

    ``modules`` maps a module's name to its Verilog text, parents before their children.
    """

    def __init__(self) -> None:
        self.modules: dict[str, str] = {}
        self._placed: dict[str, tuple[Any, wiring.Signature]] = {}
        self._provided: set[str] = set()

    def include(self, path: Path) -> None:
        """Add a Verilog file of our own, whose module is named as the file."""
        if path.stem not in self._provided:
            self.modules.setdefault(path.stem, path.read_text())

    def provide(self, name: str, text: str) -> None:
        """Take the module ``name``, with all that it is made of, from Verilog that exists."""
        self._provided.update(re.findall(r"^module (\S+?)[\s(]", text, re.M))
        self.modules[name] = text

    def define(self, name: str, cls: type[wiring.Component], args: tuple) -> wiring.Signature:
        """Convert ``cls(*args)`` under ``name``, once, and return its signature."""
        key = (cls, args)
        if name not in self._placed:
            component = cls(*args)
            self._placed[name] = (key, component.signature)
            if name not in self._provided:
                self.convert(component, name)
        found, signature = self._placed[name]
        if found != key:
            raise ValueError(f"module name {name!r} stands for {found}, not {key}")
        return signature

    def convert(self, component: wiring.Component, name: str) -> None:
        """Add a component, and all that it is made of, as the module ``name``."""
        self.modules[name] = ""  # keeps the place of a module before those inside it
        text = verilog.convert(
            component, name=name, platform=self, emit_src=False, strip_internal_attrs=True
        )
        # The first line names the generator's version, which is no part of the design.
        self.modules[name] = text.split("*/", 1)[1].strip() + "\n"

    def has_port(self, module: str, port: str) -> bool:
        """Whether a converted module has a port of that name."""
        return re.search(rf"^\s*input {port};", self.modules[module], re.M) is not None

    def text(self) -> str:
        """All modules as one Verilog source."""
        return "\n".join(self.modules.values())


def place(
    m: Module,
    platform: VerilogTarget | None,
    instance: str,
    module: str,
    cls: type[wiring.Component],
    *args: Any,
) -> Any:
    """Add ``cls(*args)`` to ``m`` as the submodule ``instance`` and return its interface.

    With a target it is an instance of the shared module named ``module``; without one (in
    Amaranth's own simulator) it is the component itself.
    """
    if not isinstance(platform, VerilogTarget):
        m.submodules[instance] = component = cls(*args)
        return component
    interface = platform.define(module, cls, args).create(path=(instance,))
    ports: dict[str, Any] = {}
    for port, value in (("clk", ClockSignal()), ("rst", ResetSignal())):
        if platform.has_port(module, port):
            ports[f"i_{port}"] = value
    for path, member, value in interface.signature.flatten(interface):
        if isinstance(value, ValueCastable):
            value = value.as_value()
        flow = "i" if member.flow == wiring.In else "o"
        ports[f"{flow}_{'__'.join(str(part) for part in path)}"] = Value.cast(value)
    m.submodules[instance] = Instance(module, **ports)
    return interface
