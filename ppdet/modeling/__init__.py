"""Detectors and their parts: backbones, necks, heads, targets, losses."""

from ppdet.utils.versions import require_paddle

require_paddle()
