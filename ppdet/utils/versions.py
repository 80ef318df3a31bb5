"""Which versions of Paddle compute what they should."""

from __future__ import annotations

import paddle

from ppdet.utils.errors import UserError

#: 3.0 samples other anchors than it should; 3.1, and 3.0 too, trace functions without the defaults of their
#: keyword arguments, so that exports fail.
LEAST = (3, 2)


def require_paddle() -> None:
    """Refuse a Paddle that is too old; 0.0.0 is a development build.

    Raises:
        UserError: If it is.
    """
    version = paddle.__version__
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if (0, 0) < parts < LEAST:
        least = ".".join(map(str, LEAST))
        raise UserError(
            f"ppdet needs Paddle {least} or newer, this is {version}: pip install 'paddlepaddle>={least}', "
            "or the GPU build as docs/install.md describes"
        )
