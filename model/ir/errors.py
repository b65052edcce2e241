"""The one exception for bad input: it names the thing, the value, what was expected, the remedy."""


class BadInput(ValueError):
    """Something that a user handed over cannot be used.

    Parameters
    ----------
    thing : str
        What is wrong, by the name the user knows it by (a layer, a recipe key, a file).
    found : object
        The offending value, as it was found.
    expected : str
        What would have been accepted.
    remedy : str
        What the user can do about it, as an imperative sentence without its full stop.
    """

    def __init__(self, thing: str, found: object, expected: str, remedy: str) -> None:
        self.thing = thing
        self.found = str(found)
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{thing}: found {self.found}; expected {expected}; {remedy}.")
