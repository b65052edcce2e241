"""Networks: one a file, known by name.

A network takes real samples, float [frames, ..., channels] (channels last), and gives one score a
class. Every module of this package is imported here, so a new network is one new file whose class
is decorated with :func:`network`. It can be traced by ``torch.fx``, and uses each layer once.

::

    mlp, lenet5, convnet, vgg16, resnet18    the networks
    chain, layout                            what convolutional ones are made of
    registry                                 the table by name
"""

import importlib
import pkgutil

from model.nets.registry import build, known, network, options

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["build", "known", "network", "options"]
