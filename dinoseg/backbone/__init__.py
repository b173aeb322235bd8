"""The DINO backbone: which there are, weights in any dialect, tapped layers, what of it is trained."""

from dinoseg.backbone.backbone import MODES, Backbone, build_backbone
from dinoseg.backbone.catalogue import BackboneSpec, list_backbones
from dinoseg.backbone.feature_map import FeatureMap
from dinoseg.backbone.fitting import fit_to_patches, fitted_size
from dinoseg.backbone.layer_sets import LAYER_SETS, layer_indices
from dinoseg.backbone.weights import WeightsReport
from dinoseg.backbone.weights_hash import backbone_hash

__all__ = [
    "LAYER_SETS",
    "MODES",
    "Backbone",
    "BackboneSpec",
    "FeatureMap",
    "WeightsReport",
    "backbone_hash",
    "build_backbone",
    "fit_to_patches",
    "fitted_size",
    "layer_indices",
    "list_backbones",
]
