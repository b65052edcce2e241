"""Probe: removal of what pruning has zeroed, against the network as it was."""

import sys
from pathlib import Path

import model
from tests.export.pruned import chain, difference, image_net
from tests.mutations.planting import DETECTED

NETWORKS = 60


def main() -> None:
    if not Path(model.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"the probe runs in {Path.cwd()} but imports {model.__file__}")
    for make in (chain, image_net):
        for seed in range(NETWORKS):
            found = difference(make(seed))
            if found is not None:
                print(f"MISMATCH {make.__name__} {seed}: expected the same codes, not at {found}")
                sys.exit(DETECTED)
    print("no difference")


if __name__ == "__main__":
    main()
