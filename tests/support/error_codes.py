"""Lists the errors with a code of their own."""

from atlas.core.errors import AtlasError


def errors_with_codes(kind: type[AtlasError] = AtlasError) -> list[type[AtlasError]]:
    found = [each for below in kind.__subclasses__() for each in errors_with_codes(below)]
    return [kind, *found] if "code" in vars(kind) else found
