"""Detectors and what they are built of."""

from ppdet.utils.versions import require_paddle

require_paddle()
