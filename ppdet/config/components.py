"""The one table from names in a YAML to classes, imported only when a config uses them."""

from __future__ import annotations

#: YAML name -> "module:Class".
COMPONENTS: dict[str, str] = {
    # data
    # modeling
    "ResNet": "ppdet.modeling.backbones.resnet:ResNet",
    "FPN": "ppdet.modeling.necks.fpn:FPN",
    # engine
}
