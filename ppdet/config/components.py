"""The one table from names in a YAML to classes, imported only when a config uses them."""

from __future__ import annotations

#: YAML name -> "module:Class".
COMPONENTS: dict[str, str] = {
    # data
    # modeling
    "ResNet": "ppdet.modeling.backbones.resnet:ResNet",
    "FPN": "ppdet.modeling.necks.fpn:FPN",
    "DarkNet": "ppdet.modeling.backbones.darknet:DarkNet",
    "DarkNetTiny": "ppdet.modeling.backbones.darknet:DarkNetTiny",
    "YOLOv3FPN": "ppdet.modeling.necks.yolo_fpn:YOLOv3FPN",
    "YOLOv3TinyFPN": "ppdet.modeling.necks.yolo_fpn:YOLOv3TinyFPN",
    "YOLOv3Head": "ppdet.modeling.heads.yolo:YOLOv3Head",
    "YOLOv3Loss": "ppdet.modeling.losses.yolo:YOLOv3Loss",
    "IouLoss": "ppdet.modeling.losses.iou:IouLoss",
    "IouAwareLoss": "ppdet.modeling.losses.iou:IouAwareLoss",
    "YOLOBox": "ppdet.modeling.heads.yolo:YOLOBox",
    "BBoxPostProcess": "ppdet.modeling.heads.post_process:BBoxPostProcess",
    "MultiClassNMS": "ppdet.modeling.heads.post_process:MultiClassNMS",
    "YOLOv3": "ppdet.modeling.detectors.yolov3:YOLOv3",
    "AnchorGenerator": "ppdet.modeling.assign.anchors:AnchorGenerator",
    "RetinaAnchorGenerator": "ppdet.modeling.assign.anchors:RetinaAnchorGenerator",
    "RPNTargetAssign": "ppdet.modeling.assign.rpn_targets:RPNTargetAssign",
    "BBoxAssigner": "ppdet.modeling.assign.roi_targets:BBoxAssigner",
    "MaxIoUAssigner": "ppdet.modeling.assign.anchor_targets:MaxIoUAssigner",
    "RPNHead": "ppdet.modeling.heads.rpn_head:RPNHead",
    "ProposalGenerator": "ppdet.modeling.heads.rpn_head:ProposalGenerator",
    "RoIAlign": "ppdet.modeling.heads.roi_extractor:RoIAlign",
    "BBoxHead": "ppdet.modeling.heads.bbox_head:BBoxHead",
    "TwoFCHead": "ppdet.modeling.heads.roi_features:TwoFCHead",
    "Res5Head": "ppdet.modeling.heads.roi_features:Res5Head",
    "CascadeHead": "ppdet.modeling.heads.cascade_head:CascadeHead",
    "CascadeTwoFCHead": "ppdet.modeling.heads.roi_features:CascadeTwoFCHead",
    "RCNNBox": "ppdet.modeling.heads.bbox_decode:RCNNBox",
    "MaskHead": "ppdet.modeling.heads.mask_head:MaskHead",
    "MaskFeat": "ppdet.modeling.heads.mask_head:MaskFeat",
    "MaskAssigner": "ppdet.modeling.heads.mask_targets:MaskAssigner",
    "MaskPostProcess": "ppdet.modeling.heads.mask_head:MaskPostProcess",
    "FasterRCNN": "ppdet.modeling.detectors.two_stage:FasterRCNN",
    "MaskRCNN": "ppdet.modeling.detectors.two_stage:MaskRCNN",
    "CascadeRCNN": "ppdet.modeling.detectors.two_stage:CascadeRCNN",
    # engine
}
