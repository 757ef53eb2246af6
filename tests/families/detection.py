"""Detectors of the DETR family, and a SegFormer: random networks of transformers' own configurations."""

import torch
import transformers as hf

import tiny
from families.example import Example
from pellucid.targets import Box, Region

LABELS = {"id2label": {0: "cat", 1: "dog", 2: "owl"}, "label2id": {"cat": 0, "dog": 1, "owl": 2}}
SIDE = 64


def pixels(seed=0, side=SIDE):
    """Two pictures as the networks read them."""
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def _resnet():
    return hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip


def detr_net(**options):
    """Encoder and decoder over the features of a small ResNet."""
    config = hf.DetrConfig(
        use_timm_backbone=False, backbone_config=_resnet(), d_model=16, num_queries=6, encoder_layers=2,
        decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
        **LABELS, **options,
    )  # fmt: skip
    return tiny.randomised(lambda: hf.DetrForObjectDetection(config))


def yolos_net():
    """A vision transformer whose last tokens are boxes."""
    config = hf.YolosConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=[SIDE, SIDE],
        patch_size=16, num_detection_tokens=5, **LABELS,
    )  # fmt: skip
    return tiny.randomised(lambda: hf.YolosForObjectDetection(config))


def deformable_net():
    """DETR that samples the features at places which it computes."""
    config = hf.DeformableDetrConfig(
        use_timm_backbone=False, backbone_config=_resnet(), d_model=32, num_queries=6, encoder_layers=2,
        decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
        num_feature_levels=3, encoder_n_points=2, decoder_n_points=2, with_box_refine=True, **LABELS,
    )  # fmt: skip
    return tiny.randomised(lambda: hf.DeformableDetrForObjectDetection(config))


def rt_detr_net():
    """DETR whose queries are the encoder's best places."""
    backbone = hf.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = hf.RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[12, 16, 20], d_model=16, num_queries=6,
        decoder_in_channels=[16, 16, 16], encoder_ffn_dim=24, decoder_ffn_dim=24, encoder_attention_heads=2,
        decoder_attention_heads=2, decoder_layers=2, decoder_n_points=2, num_denoising=0, anchor_image_size=None,
        **LABELS,
    )  # fmt: skip
    return tiny.randomised(lambda: hf.RTDetrForObjectDetection(config))


def segformer_net():
    """A hierarchical transformer whose map is a quarter as high and wide as the picture."""
    config = hf.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 12, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=12,
        sr_ratios=[4, 2, 1, 1], **LABELS,
    )  # fmt: skip
    return tiny.randomised(lambda: hf.SegformerForSemanticSegmentation(config))


def _example(family, model, module, target, note=""):
    return Example(
        family=family,
        model=model,
        weights="random",
        module=module,
        inputs={"pixel_values": pixels()},
        target=target,
        note=note,
    )


def detr():
    return _example("detection", "DETR", detr_net(), Box(1, 3))


def yolos():
    return _example("detection", "YOLOS", yolos_net(), Box(1, 3))


def deformable_detr():
    return _example("detection", "Deformable DETR", deformable_net(), Box(1, 3), "the places that it samples are held")


def rt_detr():
    return _example("detection", "RT-DETR", rt_detr_net(), Box(1, 3), "the places that it samples are held")


def segformer():
    return _example("segmentation", "SegFormer", segformer_net(), Region(1))


EXAMPLES = (detr, yolos, deformable_detr, rt_detr, segformer)
