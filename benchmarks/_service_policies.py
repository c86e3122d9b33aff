"""."""


def add_flags(parser):
    pass


def measure(options):
    pass
