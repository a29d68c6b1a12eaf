"""How a width is shared out among attention heads."""

from metaniche.errors import ConfigError


def head_width(width: int, heads: int) -> int:
    """Width of one of `heads` equal heads. Raises ConfigError where the width cannot be shared out."""
    if heads < 1 or width < 1 or width % heads:
        raise ConfigError(
            f"Expected model.width to be a multiple of model.heads, found width={width}, heads={heads}. "
            "Change one of them, e.g. width=32 with heads=4."
        )
    return width // heads
