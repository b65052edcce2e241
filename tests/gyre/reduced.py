"""Data sets of the real shapes, but few made-up samples: recipes run on them in seconds."""

import numpy as np

from gyre.recipe import Recipe
from model.data import Dataset, Split

IMAGES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "digits": (8, 8, 1)}
SEQUENCES = {"fsdd": (20, 40), "japanese_vowels": (20, 12)}
CLASSES = {"japanese_vowels": 9}
EPOCHS = ("train", "retrain", "finetune")


def dataset(name: str, samples: int = 192) -> Dataset:
    """Each class is one random pattern under noise; sequences have 8 to 20 steps."""
    rng = np.random.default_rng(0)
    shape = IMAGES.get(name) or SEQUENCES[name]
    classes = CLASSES.get(name, 10)
    patterns = rng.normal(0, 60, (classes, *shape))

    def split(count: int) -> Split:
        labels = rng.integers(0, classes, count).astype(np.int64)
        raw = patterns[labels] + rng.normal(0, 30, (count, *shape))
        if name in IMAGES:
            return Split(np.clip(raw + 128, 0, 255).astype(np.uint8), labels, 1 / 255)
        lengths = rng.integers(8, shape[0] + 1, count).astype(np.int64)
        raw[np.arange(shape[0]) >= lengths[:, None]] = 0
        return Split(np.rint(raw * 32).astype(np.int16), labels, 2**-11, lengths)

    train, validation, test = split(samples), split(samples // 2), split(samples // 2)
    return Dataset(name, train, validation, lambda: test, classes, f"reduced-{name}-{samples}")


def sets(recipe: Recipe) -> list[str]:
    """Replacements that let a recipe train for one epoch a step."""
    options = recipe.compress.solver_options()
    keys = [key for key in EPOCHS if key in type(options).model_fields]
    small = [f"compress.options.{key}.epochs=1" for key in keys]
    small += [f"compress.options.{key}.batch=32" for key in keys]
    if "interval" in type(options).model_fields:
        small.append("compress.options.interval=1")
    return [*small, "float.epochs=1", "float.batch=32"]
