"""Which kind of event an object is: one of a class of a program's own is what that derives from."""

from collections.abc import Container


def kind_of(event: object, kinds: Container[type]) -> type:
    """The one of `kinds` that the class of `event` is, or derives from; its class where it is of none of them."""
    own = type(event)
    if own in kinds:
        return own
    return next((base for base in own.__mro__ if base in kinds), own)
