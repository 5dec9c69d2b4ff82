"""Packages that only some of its users need: extras of the project."""

from importlib import util


def require_packages(what: str, extra: str, *packages: str, otherwise: str = "") -> None:
    """Raise ImportError where a package is missing, and say what needs it and how to get it.

    Args:
        what: needs the packages. extra: of the project, that has them. packages: as they are imported.
        otherwise: what else can be done, as the end of the sentence.
    """
    for name in packages:
        if util.find_spec(name) is None:
            raise ImportError(
                f"{what} needs the package {name}: pip install 'reactive-lm[{extra}]'{otherwise}.", name=name
            )
