"""What the tests of every family's doctor share: doctors without models, and what they are told."""

from minigen.train.registry import model_class


def patient(name, **options):
    """A doctor of a model that there is no need to build."""
    cls = model_class(name)
    stand_in = object.__new__(cls)
    stand_in.options = cls.Options(**options)
    return cls.doctor(stand_in)


def told(flowing, doctor, histories, start=1, every=50):
    """(step, name) of what is found, of changes to `flowing`, the signs of a run that goes well."""
    found = []
    for i, changes in enumerate(histories, start):
        found += [(i * every, f.name) for f in doctor.conclude(i * every, {**flowing, **changes})]
    return found
