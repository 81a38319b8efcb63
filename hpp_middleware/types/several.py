"""One text where several are asked for: to Python it is a sequence of texts, too, of its letters."""

from hpp_middleware.errors import ConfigurationError

__all__ = ["check_several"]


def check_several(owner: object, *names: str, where: str = "") -> None:
    """
    Refuse attributes that are one text, of whose letters ``*`` would stand for every model.

    Args:
        owner: Whose attributes.
        names: Which.
        where: What goes before their names in the error.
    Raises:
        ConfigurationError: One of them is a text.
    """
    for name in names:
        given = getattr(owner, name)
        if isinstance(given, str | bytes):
            place = f"{where}{name}"
            raise ConfigurationError(f'{place} must be several texts, such as ("a",), and is one', param=place)
