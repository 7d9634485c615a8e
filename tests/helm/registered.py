"""The laws, by their names: those that hold for every shape of values, and those that are told once."""

EACH_SHAPE, ONCE = {}, {}


class Missing(Exception):
    """This machine lacks something that a law needs."""


def each_shape(law):
    EACH_SHAPE[law.__name__] = law
    return law


def once(law):
    ONCE[law.__name__] = law
    return law
