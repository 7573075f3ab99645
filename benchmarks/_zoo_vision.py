"""List torchvision models for classification, segmentation and video, with small images."""

from functools import partial
from typing import Any

from benchmarks._torchvision import declare_operators, torchvision_models
from benchmarks._zoo import Architecture


def _classifier(name: str, size: int, **options: Any) -> tuple[Any, Any]:
    import torch

    module = getattr(torchvision_models(), name)(weights=None, **options)
    return module, torch.randn(2, 3, size, size)


def _narrow(name: str) -> tuple[Any, Any]:
    """Return a VGG with fewer units in the Linear layers, which have nine of ten parameters."""
    import torch
    from torch import nn

    module = getattr(torchvision_models(), name)(weights=None, init_weights=False)
    module.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 10))
    return module, torch.randn(2, 3, 64, 64)


def _transformer(patch: int) -> tuple[Any, Any]:
    import torch

    options = {"num_layers": 4, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 128}
    module = torchvision_models().VisionTransformer(image_size=64, patch_size=patch, dropout=0.1, **options)
    return module, torch.randn(2, 3, 64, 64)


def _segmentation(name: str, size: int) -> tuple[Any, Any]:
    import torch

    module = getattr(torchvision_models().segmentation, name)(weights=None, weights_backbone=None)
    return module, torch.randn(2, 3, size, size)


def _video(name: str, frames: int, size: int) -> tuple[Any, Any]:
    import torch

    return getattr(torchvision_models().video, name)(weights=None), torch.randn(2, 3, frames, size, size)


def _flow(name: str, size: int, **options: Any) -> tuple[Any, Any]:
    import torch

    declare_operators()
    from torchvision.models import optical_flow

    first, second = torch.randn(2, 2, 3, size, size).unbind(0)
    return getattr(optical_flow, name)(weights=None), {"image1": first, "image2": second, **options}


def _multiscale_transformer() -> tuple[Any, Any]:
    """Return a small MViT of the second version, with relative positions and pooled residuals."""
    import torch

    declare_operators()
    from torchvision.models.video import mvit

    sizes = ((1, 16, 16, (1, 1, 1), (1, 2, 2)), (2, 16, 32, (1, 2, 2), (1, 1, 1)), (2, 32, 32, (1, 1, 1), (1, 1, 1)))
    blocks = [
        mvit.MSBlockConfig(
            num_heads=heads,
            input_channels=given,
            output_channels=made,
            kernel_q=[3, 3, 3],
            kernel_kv=[3, 3, 3],
            stride_q=[*queries],
            stride_kv=[*keys],
        )
        for heads, given, made, queries, keys in sizes
    ]
    options = {"residual_pool": True, "residual_with_cls_embed": False, "rel_pos_embed": True, "proj_after_attn": True}
    module = mvit.MViT(spatial_size=(32, 32), temporal_size=4, block_setting=blocks, num_classes=10, **options)
    return module, torch.randn(2, 3, 4, 32, 32)


_PLAIN = (
    "alexnet", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "mobilenet_v2",
    "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5", "mnasnet1_0",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "efficientnet_b0",
    "efficientnet_v2_s", "regnet_y_400mf", "regnet_x_400mf", "convnext_tiny", "swin_t", "swin_v2_t",
)  # fmt: skip
_FIXED = {
    "googlenet": (64, {"aux_logits": False, "init_weights": False}),
    "inception_v3": (96, {"aux_logits": False, "init_weights": False}),
    "maxvit_t": (224, {}),
}
_SEGMENTATION = ("fcn_resnet50", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
_VIDEO = {
    "r3d_18": (4, 32), "mc3_18": (4, 32), "r2plus1d_18": (4, 32), "swin3d_t": (4, 32), "s3d": (16, 224),
}  # fmt: skip

ENTRIES = (
    *(Architecture(name=name, build=partial(_classifier, name, 64), kind="classification") for name in _PLAIN),
    *(
        Architecture(name=name, build=partial(_classifier, name, size, **options), kind="classification")
        for name, (size, options) in _FIXED.items()
    ),
    *(Architecture(name=name, build=partial(_narrow, name), kind="classification") for name in ("vgg11", "vgg16_bn")),
    Architecture(name="VisionTransformer", build=partial(_transformer, 16), kind="classification"),
    *(Architecture(name=name, build=partial(_segmentation, name, 64), kind="segmentation") for name in _SEGMENTATION),
    *(Architecture(name=name, build=partial(_video, name, *sizes), kind="video") for name, sizes in _VIDEO.items()),
    Architecture(name="MViT v2", build=_multiscale_transformer, kind="video"),
    Architecture(name="raft_small", build=partial(_flow, "raft_small", 128, num_flow_updates=2), kind="optical flow"),
    Architecture(name="raft_large", build=partial(_flow, "raft_large", 128), kind="optical flow"),
)
