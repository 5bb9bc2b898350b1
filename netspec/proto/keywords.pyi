# Written by `make proto` from caffe.proto.
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypedDict
from typing_extensions import Unpack
from . import caffe_pb2
from .spec import Top

class Array(Protocol):
    def tolist(self) -> Any: ...

class LayerKeywords(TypedDict, total=False):
    name: str
    bottom: str | Sequence[str]
    top: str | Sequence[str]
    loss_weight: float | Array | Sequence[float | Array]
    param: ParamSpecKeywords | caffe_pb2.ParamSpec | Sequence[ParamSpecKeywords | caffe_pb2.ParamSpec]
    blobs: BlobProtoKeywords | caffe_pb2.BlobProto | Sequence[BlobProtoKeywords | caffe_pb2.BlobProto]
    include: NetStateRuleKeywords | caffe_pb2.NetStateRule | Sequence[NetStateRuleKeywords | caffe_pb2.NetStateRule]
    exclude: NetStateRuleKeywords | caffe_pb2.NetStateRule | Sequence[NetStateRuleKeywords | caffe_pb2.NetStateRule]
    phase: int | Literal['TRAIN', 'TEST']
    propagate_down: bool | Sequence[bool]

class AbsValKeywords(LayerKeywords, total=False): ...

class AccuracyKeywords(LayerKeywords, AccuracyParameterKeywords, total=False):
    accuracy_param: AccuracyParameterKeywords | caffe_pb2.AccuracyParameter

class AnnotatedDataKeywords(LayerKeywords, DataParameterKeywords, total=False):
    data_param: DataParameterKeywords | caffe_pb2.DataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    is_flow: bool
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class ArgMaxKeywords(LayerKeywords, ArgMaxParameterKeywords, total=False):
    argmax_param: ArgMaxParameterKeywords | caffe_pb2.ArgMaxParameter

class AxpyKeywords(LayerKeywords, total=False): ...

class BNKeywords(LayerKeywords, BNParameterKeywords, total=False):
    bn_param: BNParameterKeywords | caffe_pb2.BNParameter

class BNLLKeywords(LayerKeywords, total=False): ...

class BatchNormKeywords(LayerKeywords, BatchNormParameterKeywords, total=False):
    batch_norm_param: BatchNormParameterKeywords | caffe_pb2.BatchNormParameter

class BatchReindexKeywords(LayerKeywords, total=False): ...

class BiasKeywords(LayerKeywords, BiasParameterKeywords, total=False):
    bias_param: BiasParameterKeywords | caffe_pb2.BiasParameter

class BoxAnnotatorOHEMKeywords(LayerKeywords, BoxAnnotatorOHEMParameterKeywords, total=False):
    box_annotator_ohem_param: BoxAnnotatorOHEMParameterKeywords | caffe_pb2.BoxAnnotatorOHEMParameter

class ClipKeywords(LayerKeywords, ClipParameterKeywords, total=False):
    clip_param: ClipParameterKeywords | caffe_pb2.ClipParameter

class ConcatKeywords(LayerKeywords, ConcatParameterKeywords, total=False):
    concat_param: ConcatParameterKeywords | caffe_pb2.ConcatParameter

class ContrastiveLossKeywords(LayerKeywords, ContrastiveLossParameterKeywords, total=False):
    contrastive_loss_param: ContrastiveLossParameterKeywords | caffe_pb2.ContrastiveLossParameter
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter
    ignore_label: int | Array
    normalize: bool
    normalization: int | Literal['FULL', 'VALID', 'BATCH_SIZE', 'NONE', 'PRE_FIXED']
    weight_by_label_freqs: bool
    class_weighting: float | Array | Sequence[float | Array]
    pre_fixed_normalizer: float | Array
    adaptive_weighting: bool
    gamma: float | Array
    scale: float | Array
    min_weight: float | Array
    max_weight: float | Array
    max_entropy_weight: float | Array

class ConvolutionKeywords(LayerKeywords, ConvolutionParameterKeywords, total=False):
    convolution_param: ConvolutionParameterKeywords | caffe_pb2.ConvolutionParameter

class Convolution3DKeywords(LayerKeywords, ConvolutionParameterKeywords, total=False):
    convolution_param: ConvolutionParameterKeywords | caffe_pb2.ConvolutionParameter

class ConvolutionDepthwiseKeywords(LayerKeywords, ConvolutionParameterKeywords, total=False):
    convolution_param: ConvolutionParameterKeywords | caffe_pb2.ConvolutionParameter

class CropKeywords(LayerKeywords, CropParameterKeywords, total=False):
    crop_param: CropParameterKeywords | caffe_pb2.CropParameter

class DataKeywords(LayerKeywords, DataParameterKeywords, total=False):
    data_param: DataParameterKeywords | caffe_pb2.DataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    is_flow: bool
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class DeconvolutionKeywords(LayerKeywords, ConvolutionParameterKeywords, total=False):
    convolution_param: ConvolutionParameterKeywords | caffe_pb2.ConvolutionParameter

class Deconvolution3DKeywords(LayerKeywords, ConvolutionParameterKeywords, total=False):
    convolution_param: ConvolutionParameterKeywords | caffe_pb2.ConvolutionParameter

class DenseImageDataKeywords(LayerKeywords, DenseImageDataParameterKeywords, total=False):
    dense_image_data_param: DenseImageDataParameterKeywords | caffe_pb2.DenseImageDataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    scale: float | Array
    crop_size: int | Array
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    is_flow: bool
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    flow: bool
    stride: int | Array
    pad: int | Array

class DepthwiseConvolutionKeywords(LayerKeywords, ConvolutionParameterKeywords, total=False):
    convolution_param: ConvolutionParameterKeywords | caffe_pb2.ConvolutionParameter

class DetectionEvaluateKeywords(LayerKeywords, DetectionEvaluateParameterKeywords, total=False):
    detection_evaluate_param: DetectionEvaluateParameterKeywords | caffe_pb2.DetectionEvaluateParameter

class DetectionOutputKeywords(LayerKeywords, DetectionOutputParameterKeywords, total=False):
    detection_output_param: DetectionOutputParameterKeywords | caffe_pb2.DetectionOutputParameter

class DropoutKeywords(LayerKeywords, DropoutParameterKeywords, total=False):
    dropout_param: DropoutParameterKeywords | caffe_pb2.DropoutParameter

class DummyDataKeywords(LayerKeywords, DummyDataParameterKeywords, total=False):
    dummy_data_param: DummyDataParameterKeywords | caffe_pb2.DummyDataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    scale: float | Array
    mirror: bool
    crop_size: int | Array
    mean_file: str
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    is_flow: bool
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class ELUKeywords(LayerKeywords, ELUParameterKeywords, total=False):
    elu_param: ELUParameterKeywords | caffe_pb2.ELUParameter

class EltwiseKeywords(LayerKeywords, EltwiseParameterKeywords, total=False):
    eltwise_param: EltwiseParameterKeywords | caffe_pb2.EltwiseParameter

class EmbedKeywords(LayerKeywords, EmbedParameterKeywords, total=False):
    embed_param: EmbedParameterKeywords | caffe_pb2.EmbedParameter

class EuclideanLossKeywords(LayerKeywords, LossParameterKeywords, total=False):
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter

class ExpKeywords(LayerKeywords, ExpParameterKeywords, total=False):
    exp_param: ExpParameterKeywords | caffe_pb2.ExpParameter

class FilterKeywords(LayerKeywords, total=False): ...

class FlattenKeywords(LayerKeywords, FlattenParameterKeywords, total=False):
    flatten_param: FlattenParameterKeywords | caffe_pb2.FlattenParameter

class GSTilingKeywords(LayerKeywords, GSTilingParameterKeywords, total=False):
    gs_tiling_param: GSTilingParameterKeywords | caffe_pb2.GSTilingParameter

class HDF5DataKeywords(LayerKeywords, HDF5DataParameterKeywords, total=False):
    hdf5_data_param: HDF5DataParameterKeywords | caffe_pb2.HDF5DataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    scale: float | Array
    mirror: bool
    crop_size: int | Array
    mean_file: str
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    is_flow: bool
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class HDF5OutputKeywords(LayerKeywords, HDF5OutputParameterKeywords, total=False):
    hdf5_output_param: HDF5OutputParameterKeywords | caffe_pb2.HDF5OutputParameter

class HingeLossKeywords(LayerKeywords, HingeLossParameterKeywords, total=False):
    hinge_loss_param: HingeLossParameterKeywords | caffe_pb2.HingeLossParameter
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter
    ignore_label: int | Array
    normalize: bool
    normalization: int | Literal['FULL', 'VALID', 'BATCH_SIZE', 'NONE', 'PRE_FIXED']
    weight_by_label_freqs: bool
    class_weighting: float | Array | Sequence[float | Array]
    pre_fixed_normalizer: float | Array
    adaptive_weighting: bool
    gamma: float | Array
    scale: float | Array
    min_weight: float | Array
    max_weight: float | Array
    max_entropy_weight: float | Array

class Im2colKeywords(LayerKeywords, ConvolutionParameterKeywords, total=False):
    convolution_param: ConvolutionParameterKeywords | caffe_pb2.ConvolutionParameter

class ImageDataKeywords(LayerKeywords, ImageDataParameterKeywords, total=False):
    image_data_param: ImageDataParameterKeywords | caffe_pb2.ImageDataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class ImageLabelmapDataKeywords(LayerKeywords, ImageDataParameterKeywords, total=False):
    image_data_param: ImageDataParameterKeywords | caffe_pb2.ImageDataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class ImageSegDataKeywords(LayerKeywords, ImageDataParameterKeywords, total=False):
    image_data_param: ImageDataParameterKeywords | caffe_pb2.ImageDataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class InfogainLossKeywords(LayerKeywords, InfogainLossParameterKeywords, total=False):
    infogain_loss_param: InfogainLossParameterKeywords | caffe_pb2.InfogainLossParameter
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter
    ignore_label: int | Array
    normalize: bool
    normalization: int | Literal['FULL', 'VALID', 'BATCH_SIZE', 'NONE', 'PRE_FIXED']
    weight_by_label_freqs: bool
    class_weighting: float | Array | Sequence[float | Array]
    pre_fixed_normalizer: float | Array
    adaptive_weighting: bool
    gamma: float | Array
    scale: float | Array
    min_weight: float | Array
    max_weight: float | Array
    max_entropy_weight: float | Array

class InnerProductKeywords(LayerKeywords, InnerProductParameterKeywords, total=False):
    inner_product_param: InnerProductParameterKeywords | caffe_pb2.InnerProductParameter

class InputKeywords(LayerKeywords, InputParameterKeywords, total=False):
    input_param: InputParameterKeywords | caffe_pb2.InputParameter

class InterpKeywords(LayerKeywords, InterpParameterKeywords, total=False):
    interp_param: InterpParameterKeywords | caffe_pb2.InterpParameter

class LRNKeywords(LayerKeywords, LRNParameterKeywords, total=False):
    lrn_param: LRNParameterKeywords | caffe_pb2.LRNParameter

class LSTMKeywords(LayerKeywords, RecurrentParameterKeywords, total=False):
    recurrent_param: RecurrentParameterKeywords | caffe_pb2.RecurrentParameter

class LSTMUnitKeywords(LayerKeywords, total=False): ...

class LogKeywords(LayerKeywords, LogParameterKeywords, total=False):
    log_param: LogParameterKeywords | caffe_pb2.LogParameter

class MVNKeywords(LayerKeywords, MVNParameterKeywords, total=False):
    mvn_param: MVNParameterKeywords | caffe_pb2.MVNParameter

class MemoryDataKeywords(LayerKeywords, MemoryDataParameterKeywords, total=False):
    memory_data_param: MemoryDataParameterKeywords | caffe_pb2.MemoryDataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    scale: float | Array
    mirror: bool
    crop_size: int | Array
    mean_file: str
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    is_flow: bool
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class MultiBoxLossKeywords(LayerKeywords, MultiBoxLossParameterKeywords, total=False):
    multibox_loss_param: MultiBoxLossParameterKeywords | caffe_pb2.MultiBoxLossParameter
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter
    ignore_label: int | Array
    normalize: bool
    normalization: int | Literal['FULL', 'VALID', 'BATCH_SIZE', 'NONE', 'PRE_FIXED']
    weight_by_label_freqs: bool
    class_weighting: float | Array | Sequence[float | Array]
    pre_fixed_normalizer: float | Array
    adaptive_weighting: bool
    gamma: float | Array
    scale: float | Array
    min_weight: float | Array
    max_weight: float | Array
    max_entropy_weight: float | Array

class MultiStageMeanfieldKeywords(LayerKeywords, MultiStageMeanfieldParameterKeywords, total=False):
    multi_stage_meanfield_param: MultiStageMeanfieldParameterKeywords | caffe_pb2.MultiStageMeanfieldParameter

class MultinomialLogisticLossKeywords(LayerKeywords, LossParameterKeywords, total=False):
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter

class NdConvolutionKeywords(LayerKeywords, ConvolutionParameterKeywords, total=False):
    convolution_param: ConvolutionParameterKeywords | caffe_pb2.ConvolutionParameter

class NdPoolingKeywords(LayerKeywords, PoolingParameterKeywords, total=False):
    pooling_param: PoolingParameterKeywords | caffe_pb2.PoolingParameter

class NormalizeKeywords(LayerKeywords, NormalizeParameterKeywords, total=False):
    norm_param: NormalizeParameterKeywords | caffe_pb2.NormalizeParameter

class PReLUKeywords(LayerKeywords, PReLUParameterKeywords, total=False):
    prelu_param: PReLUParameterKeywords | caffe_pb2.PReLUParameter

class PSROIPoolingKeywords(LayerKeywords, PSROIPoolingParameterKeywords, total=False):
    psroi_pooling_param: PSROIPoolingParameterKeywords | caffe_pb2.PSROIPoolingParameter

class ParameterKeywords(LayerKeywords, ParameterParameterKeywords, total=False):
    parameter_param: ParameterParameterKeywords | caffe_pb2.ParameterParameter

class PermuteKeywords(LayerKeywords, PermuteParameterKeywords, total=False):
    permute_param: PermuteParameterKeywords | caffe_pb2.PermuteParameter

class PoolingKeywords(LayerKeywords, PoolingParameterKeywords, total=False):
    pooling_param: PoolingParameterKeywords | caffe_pb2.PoolingParameter

class Pooling3DKeywords(LayerKeywords, PoolingParameterKeywords, total=False):
    pooling_param: PoolingParameterKeywords | caffe_pb2.PoolingParameter

class PowerKeywords(LayerKeywords, PowerParameterKeywords, total=False):
    power_param: PowerParameterKeywords | caffe_pb2.PowerParameter

class PriorBoxKeywords(LayerKeywords, PriorBoxParameterKeywords, total=False):
    prior_box_param: PriorBoxParameterKeywords | caffe_pb2.PriorBoxParameter

class PriorBoxClusteredKeywords(LayerKeywords, PriorBoxParameterKeywords, total=False):
    prior_box_param: PriorBoxParameterKeywords | caffe_pb2.PriorBoxParameter

class ProposalKeywords(LayerKeywords, ProposalParameterKeywords, total=False):
    proposal_param: ProposalParameterKeywords | caffe_pb2.ProposalParameter

class PythonKeywords(LayerKeywords, PythonParameterKeywords, total=False):
    python_param: PythonParameterKeywords | caffe_pb2.PythonParameter

class RNNKeywords(LayerKeywords, RecurrentParameterKeywords, total=False):
    recurrent_param: RecurrentParameterKeywords | caffe_pb2.RecurrentParameter

class ROIAlignKeywords(LayerKeywords, ROIPoolingParameterKeywords, total=False):
    roi_pooling_param: ROIPoolingParameterKeywords | caffe_pb2.ROIPoolingParameter

class ROIPoolingKeywords(LayerKeywords, ROIPoolingParameterKeywords, total=False):
    roi_pooling_param: ROIPoolingParameterKeywords | caffe_pb2.ROIPoolingParameter

class ReLUKeywords(LayerKeywords, ReLUParameterKeywords, total=False):
    relu_param: ReLUParameterKeywords | caffe_pb2.ReLUParameter

class ReLU6Keywords(LayerKeywords, ReLU6ParameterKeywords, total=False):
    relu6_param: ReLU6ParameterKeywords | caffe_pb2.ReLU6Parameter

class ReductionKeywords(LayerKeywords, ReductionParameterKeywords, total=False):
    reduction_param: ReductionParameterKeywords | caffe_pb2.ReductionParameter

class ReorgKeywords(LayerKeywords, ReorgParameterKeywords, total=False):
    reorg_param: ReorgParameterKeywords | caffe_pb2.ReorgParameter

class ReshapeKeywords(LayerKeywords, ReshapeParameterKeywords, total=False):
    reshape_param: ReshapeParameterKeywords | caffe_pb2.ReshapeParameter

class SPPKeywords(LayerKeywords, SPPParameterKeywords, total=False):
    spp_param: SPPParameterKeywords | caffe_pb2.SPPParameter

class ScaleKeywords(LayerKeywords, ScaleParameterKeywords, total=False):
    scale_param: ScaleParameterKeywords | caffe_pb2.ScaleParameter

class SegAccuracyKeywords(LayerKeywords, SegAccuracyParameterKeywords, total=False):
    seg_accuracy_param: SegAccuracyParameterKeywords | caffe_pb2.SegAccuracyParameter

class ShuffleChannelKeywords(LayerKeywords, ShuffleChannelParameterKeywords, total=False):
    shuffle_channel_param: ShuffleChannelParameterKeywords | caffe_pb2.ShuffleChannelParameter

class SigmoidKeywords(LayerKeywords, SigmoidParameterKeywords, total=False):
    sigmoid_param: SigmoidParameterKeywords | caffe_pb2.SigmoidParameter

class SigmoidCrossEntropyLossKeywords(LayerKeywords, LossParameterKeywords, total=False):
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter

class SilenceKeywords(LayerKeywords, total=False): ...

class SliceKeywords(LayerKeywords, SliceParameterKeywords, total=False):
    slice_param: SliceParameterKeywords | caffe_pb2.SliceParameter

class SmoothL1LossKeywords(LayerKeywords, SmoothL1LossParameterKeywords, total=False):
    smooth_l1_loss_param: SmoothL1LossParameterKeywords | caffe_pb2.SmoothL1LossParameter
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter
    ignore_label: int | Array
    normalize: bool
    normalization: int | Literal['FULL', 'VALID', 'BATCH_SIZE', 'NONE', 'PRE_FIXED']
    weight_by_label_freqs: bool
    class_weighting: float | Array | Sequence[float | Array]
    pre_fixed_normalizer: float | Array
    adaptive_weighting: bool
    gamma: float | Array
    scale: float | Array
    min_weight: float | Array
    max_weight: float | Array
    max_entropy_weight: float | Array

class SmoothL1LossOHEMKeywords(LayerKeywords, LossParameterKeywords, total=False):
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter

class SoftmaxKeywords(LayerKeywords, SoftmaxParameterKeywords, total=False):
    softmax_param: SoftmaxParameterKeywords | caffe_pb2.SoftmaxParameter

class SoftmaxWithLossKeywords(LayerKeywords, SoftmaxParameterKeywords, total=False):
    softmax_param: SoftmaxParameterKeywords | caffe_pb2.SoftmaxParameter
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter
    ignore_label: int | Array
    normalize: bool
    normalization: int | Literal['FULL', 'VALID', 'BATCH_SIZE', 'NONE', 'PRE_FIXED']
    weight_by_label_freqs: bool
    class_weighting: float | Array | Sequence[float | Array]
    pre_fixed_normalizer: float | Array
    adaptive_weighting: bool
    gamma: float | Array
    scale: float | Array
    min_weight: float | Array
    max_weight: float | Array
    max_entropy_weight: float | Array

class SoftmaxWithLossOHEMKeywords(LayerKeywords, SoftmaxParameterKeywords, total=False):
    softmax_param: SoftmaxParameterKeywords | caffe_pb2.SoftmaxParameter
    loss_param: LossParameterKeywords | caffe_pb2.LossParameter
    ignore_label: int | Array
    normalize: bool
    normalization: int | Literal['FULL', 'VALID', 'BATCH_SIZE', 'NONE', 'PRE_FIXED']
    weight_by_label_freqs: bool
    class_weighting: float | Array | Sequence[float | Array]
    pre_fixed_normalizer: float | Array
    adaptive_weighting: bool
    gamma: float | Array
    scale: float | Array
    min_weight: float | Array
    max_weight: float | Array
    max_entropy_weight: float | Array

class SplitKeywords(LayerKeywords, total=False): ...

class SwishKeywords(LayerKeywords, SwishParameterKeywords, total=False):
    swish_param: SwishParameterKeywords | caffe_pb2.SwishParameter

class TanHKeywords(LayerKeywords, TanHParameterKeywords, total=False):
    tanh_param: TanHParameterKeywords | caffe_pb2.TanHParameter

class ThresholdKeywords(LayerKeywords, ThresholdParameterKeywords, total=False):
    threshold_param: ThresholdParameterKeywords | caffe_pb2.ThresholdParameter

class TileKeywords(LayerKeywords, TileParameterKeywords, total=False):
    tile_param: TileParameterKeywords | caffe_pb2.TileParameter

class UnpoolingKeywords(LayerKeywords, UnpoolingParameterKeywords, total=False):
    unpooling_param: UnpoolingParameterKeywords | caffe_pb2.UnpoolingParameter

class UpsampleKeywords(LayerKeywords, UpsampleParameterKeywords, total=False):
    upsample_param: UpsampleParameterKeywords | caffe_pb2.UpsampleParameter

class VideoDataKeywords(LayerKeywords, VideoDataParameterKeywords, total=False):
    video_data_param: VideoDataParameterKeywords | caffe_pb2.VideoDataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    scale: float | Array
    mirror: bool
    crop_size: int | Array
    mean_file: str
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    is_flow: bool
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class WindowDataKeywords(LayerKeywords, WindowDataParameterKeywords, total=False):
    window_data_param: WindowDataParameterKeywords | caffe_pb2.WindowDataParameter
    transform_param: TransformationParameterKeywords | caffe_pb2.TransformationParameter
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    is_flow: bool
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class YoloDetectionOutputKeywords(LayerKeywords, YoloDetectionOutputParameterKeywords, total=False):
    yolo_detection_output_param: YoloDetectionOutputParameterKeywords | caffe_pb2.YoloDetectionOutputParameter

class Yolov3DetectionOutputKeywords(LayerKeywords, Yolov3DetectionOutputParameterKeywords, total=False):
    yolov3_detection_output_param: Yolov3DetectionOutputParameterKeywords | caffe_pb2.Yolov3DetectionOutputParameter

class ParamSpecKeywords(TypedDict, total=False):
    name: str
    share_mode: int | Literal['STRICT', 'PERMISSIVE']
    lr_mult: float | Array
    decay_mult: float | Array

class BlobProtoKeywords(TypedDict, total=False):
    num: int | Array
    channels: int | Array
    height: int | Array
    width: int | Array
    data: float | Array | Sequence[float | Array]
    diff: float | Array | Sequence[float | Array]
    shape: BlobShapeKeywords | caffe_pb2.BlobShape
    double_data: float | Array | Sequence[float | Array]
    double_diff: float | Array | Sequence[float | Array]
    raw_data_type: int | Literal['DOUBLE', 'FLOAT', 'FLOAT16', 'INT', 'UINT', 'BOOL']
    raw_data: str

class BlobShapeKeywords(TypedDict, total=False):
    dim: int | Array | Sequence[int | Array]

class NetStateRuleKeywords(TypedDict, total=False):
    phase: int | Literal['TRAIN', 'TEST']
    min_level: int | Array
    max_level: int | Array
    stage: str | Sequence[str]
    not_stage: str | Sequence[str]

class AccuracyParameterKeywords(TypedDict, total=False):
    top_k: int | Array
    axis: int | Array
    ignore_label: int | Array

class DataParameterKeywords(TypedDict, total=False):
    source: str
    scale: float | Array
    mean_file: str
    batch_size: int | Array
    crop_size: int | Array
    mirror: bool
    rand_skip: int | Array
    backend: int | Literal['LEVELDB', 'LMDB']
    force_encoded_color: bool
    prefetch: int | Array
    cache: bool
    threads: int | Array
    shuffle: bool

class TransformationParameterKeywords(TypedDict, total=False):
    scale: float | Array
    mirror: bool
    crop_size: int | Array
    mean_file: str
    mean_value: float | Array | Sequence[float | Array]
    force_color: bool
    force_gray: bool
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter | Sequence[ResizeParameterKeywords | caffe_pb2.ResizeParameter]
    noise_param: HintsKeywords | caffe_pb2.Hints | Sequence[HintsKeywords | caffe_pb2.Hints]
    emit_constraint: EmitConstraintKeywords | caffe_pb2.EmitConstraint
    distort_param: DistortionParameterKeywords | caffe_pb2.DistortionParameter
    expand_param: ExpansionParameterKeywords | caffe_pb2.ExpansionParameter
    random_resize_param: HintsKeywords | caffe_pb2.Hints
    random_aspect_ratio_param: HintsKeywords | caffe_pb2.Hints
    fix_crop: bool
    multi_scale: bool
    scale_ratios: float | Array | Sequence[float | Array]
    max_distort: int | Array
    is_flow: bool
    more_fix_crop: bool
    img_rand_resize_lower: int | Array
    img_rand_resize_upper: int | Array
    vertical_stretch_lower: float | Array
    vertical_stretch_upper: float | Array
    horizontal_stretch_lower: float | Array
    horizontal_stretch_upper: float | Array
    allow_upscale: bool
    scale_factors: float | Array | Sequence[float | Array]
    crop_width: int | Array
    crop_height: int | Array
    flow: bool
    stride: int | Array
    pad: int | Array

class ResizeParameterKeywords(TypedDict, total=False):
    prob: float | Array
    resize_mode: int | Literal['WARP', 'FIT_SMALL_SIZE', 'FIT_LARGE_SIZE_AND_PAD']
    height: int | Array
    width: int | Array
    pad_mode: int | Literal['CONSTANT', 'MIRRORED', 'REPEAT_NEAREST']
    pad_value: float | Array | Sequence[float | Array]
    interp_mode: int | Literal['LINEAR', 'AREA', 'NEAREST', 'CUBIC', 'LANCZOS4'] | Sequence[int | Literal['LINEAR', 'AREA', 'NEAREST', 'CUBIC', 'LANCZOS4']]

class HintsKeywords(TypedDict, total=False): ...

class EmitConstraintKeywords(TypedDict, total=False):
    emit_type: int | Literal['CENTER', 'MIN_OVERLAP']
    emit_overlap: float | Array

class DistortionParameterKeywords(TypedDict, total=False):
    brightness_prob: float | Array
    brightness_delta: float | Array
    contrast_prob: float | Array
    contrast_lower: float | Array
    contrast_upper: float | Array
    hue_prob: float | Array
    hue_delta: float | Array
    saturation_prob: float | Array
    saturation_lower: float | Array
    saturation_upper: float | Array
    random_order_prob: float | Array
    prob: float | Array
    all_effects: bool
    brightness: bool
    contrast: bool
    saturation: bool
    hue: bool
    random_order: bool

class ExpansionParameterKeywords(TypedDict, total=False):
    prob: float | Array
    max_expand_ratio: float | Array

class ArgMaxParameterKeywords(TypedDict, total=False):
    out_max_val: bool
    top_k: int | Array
    axis: int | Array

class BNParameterKeywords(TypedDict, total=False):
    slope_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    bias_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    momentum: float | Array
    eps: float | Array
    frozen: bool
    engine: int | Literal['DEFAULT', 'CAFFE', 'CUDNN', 'MKL2017', 'MKLDNN']
    scale_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    shift_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    bn_mode: int | Literal['LEARN', 'INFERENCE']

class FillerParameterKeywords(TypedDict, total=False):
    type: str
    value: float | Array
    min: float | Array
    max: float | Array
    mean: float | Array
    std: float | Array
    sparse: int | Array
    variance_norm: int | Literal['FAN_IN', 'FAN_OUT', 'AVERAGE']

class BatchNormParameterKeywords(TypedDict, total=False):
    use_global_stats: bool
    moving_average_fraction: float | Array
    eps: float | Array
    scale_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    bias_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    scale_bias: bool
    filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    use_weight_bias: bool
    bias_term: bool

class BiasParameterKeywords(TypedDict, total=False):
    axis: int | Array
    num_axes: int | Array
    filler: FillerParameterKeywords | caffe_pb2.FillerParameter

class BoxAnnotatorOHEMParameterKeywords(TypedDict, total=False):
    roi_per_img: int | Array
    ignore_label: int | Array

class ClipParameterKeywords(TypedDict, total=False):
    min: float | Array
    max: float | Array

class ConcatParameterKeywords(TypedDict, total=False):
    concat_dim: int | Array
    axis: int | Array
    per_fla_fuse: bool

class ContrastiveLossParameterKeywords(TypedDict, total=False):
    margin: float | Array
    legacy_version: bool

class LossParameterKeywords(TypedDict, total=False):
    ignore_label: int | Array
    normalize: bool
    normalization: int | Literal['FULL', 'VALID', 'BATCH_SIZE', 'NONE', 'PRE_FIXED']
    weight_by_label_freqs: bool
    class_weighting: float | Array | Sequence[float | Array]
    pre_fixed_normalizer: float | Array
    adaptive_weighting: bool
    gamma: float | Array
    scale: float | Array
    min_weight: float | Array
    max_weight: float | Array
    max_entropy_weight: float | Array

class ConvolutionParameterKeywords(TypedDict, total=False):
    num_output: int | Array
    bias_term: bool
    pad: int | Array | Sequence[int | Array]
    kernel_size: int | Array | Sequence[int | Array]
    group: int | Array
    stride: int | Array | Sequence[int | Array]
    weight_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    bias_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    pad_h: int | Array
    pad_w: int | Array
    kernel_h: int | Array
    kernel_w: int | Array
    stride_h: int | Array
    stride_w: int | Array
    engine: int | Literal['DEFAULT', 'CAFFE', 'CUDNN', 'MKL2017', 'MKLDNN']
    axis: int | Array
    force_nd_im2col: bool
    dilation: int | Array | Sequence[int | Array]
    kernel_depth: int | Array
    temporal_stride: int | Array
    temporal_pad: int | Array
    pad_shape: BlobShapeKeywords | caffe_pb2.BlobShape
    kernel_shape: BlobShapeKeywords | caffe_pb2.BlobShape
    stride_shape: BlobShapeKeywords | caffe_pb2.BlobShape
    hole: int | Array
    conv_algorithm: str

class CropParameterKeywords(TypedDict, total=False):
    axis: int | Array
    offset: int | Array | Sequence[int | Array]

class DenseImageDataParameterKeywords(TypedDict, total=False):
    source: str
    batch_size: int | Array
    rand_skip: int | Array
    shuffle: bool
    new_height: int | Array
    new_width: int | Array
    is_color: bool
    mean_file: str
    root_folder: str
    mirror: bool
    crop_width: int | Array
    crop_height: int | Array
    label_divide_factor: int | Array

class DetectionEvaluateParameterKeywords(TypedDict, total=False):
    num_classes: int | Array
    background_label_id: int | Array
    overlap_threshold: float | Array
    evaluate_difficult_gt: bool
    name_size_file: str
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter

class DetectionOutputParameterKeywords(TypedDict, total=False):
    num_classes: int | Array
    share_location: bool
    background_label_id: int | Array
    nms_param: NonMaximumSuppressionParameterKeywords | caffe_pb2.NonMaximumSuppressionParameter
    save_output_param: SaveOutputParameterKeywords | caffe_pb2.SaveOutputParameter
    code_type: int | Literal['CORNER', 'CENTER_SIZE', 'CORNER_SIZE']
    keep_top_k: int | Array
    variance_encoded_in_target: bool
    confidence_threshold: float | Array
    visualize: bool
    visualize_threshold: float | Array
    save_file: str

class NonMaximumSuppressionParameterKeywords(TypedDict, total=False):
    nms_threshold: float | Array
    top_k: int | Array
    eta: float | Array
    soft_nms: bool
    theta: float | Array

class SaveOutputParameterKeywords(TypedDict, total=False):
    output_directory: str
    output_name_prefix: str
    output_format: str
    label_map_file: str
    name_size_file: str
    num_test_image: int | Array
    resize_param: ResizeParameterKeywords | caffe_pb2.ResizeParameter

class DropoutParameterKeywords(TypedDict, total=False):
    dropout_ratio: float | Array
    scale_train: bool
    sample_weights_test: bool

class DummyDataParameterKeywords(TypedDict, total=False):
    data_filler: FillerParameterKeywords | caffe_pb2.FillerParameter | Sequence[FillerParameterKeywords | caffe_pb2.FillerParameter]
    num: int | Array | Sequence[int | Array]
    channels: int | Array | Sequence[int | Array]
    height: int | Array | Sequence[int | Array]
    width: int | Array | Sequence[int | Array]
    shape: BlobShapeKeywords | caffe_pb2.BlobShape | Sequence[BlobShapeKeywords | caffe_pb2.BlobShape]

class ELUParameterKeywords(TypedDict, total=False):
    alpha: float | Array

class EltwiseParameterKeywords(TypedDict, total=False):
    operation: int | Literal['PROD', 'SUM', 'MAX']
    coeff: float | Array | Sequence[float | Array]
    stable_prod_grad: bool

class EmbedParameterKeywords(TypedDict, total=False):
    num_output: int | Array
    input_dim: int | Array
    bias_term: bool
    weight_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    bias_filler: FillerParameterKeywords | caffe_pb2.FillerParameter

class ExpParameterKeywords(TypedDict, total=False):
    base: float | Array
    scale: float | Array
    shift: float | Array

class FlattenParameterKeywords(TypedDict, total=False):
    axis: int | Array
    end_axis: int | Array

class GSTilingParameterKeywords(TypedDict, total=False):
    stride: int | Array
    reverse: bool

class HDF5DataParameterKeywords(TypedDict, total=False):
    source: str
    batch_size: int | Array
    shuffle: bool

class HDF5OutputParameterKeywords(TypedDict, total=False):
    file_name: str

class HingeLossParameterKeywords(TypedDict, total=False):
    norm: int | Literal['L1', 'L2']

class ImageDataParameterKeywords(TypedDict, total=False):
    source: str
    scale: float | Array
    mean_file: str
    batch_size: int | Array
    crop_size: int | Array
    mirror: bool
    rand_skip: int | Array
    shuffle: bool
    new_height: int | Array
    new_width: int | Array
    is_color: bool
    root_folder: str
    label_type: int | Literal['NONE', 'IMAGE', 'PIXEL']
    show_data: int | Array
    threads: int | Array
    cache: bool
    precache: bool
    new_length: int | Array
    use_image: bool
    use_temporal_jitter: bool
    is_flow: bool
    normalize: bool
    truth_scale: float | Array
    num_truth_channels: int | Array
    min_height: int | Array
    min_width: int | Array
    has_label: bool

class InfogainLossParameterKeywords(TypedDict, total=False):
    source: str
    axis: int | Array

class InnerProductParameterKeywords(TypedDict, total=False):
    num_output: int | Array
    bias_term: bool
    weight_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    bias_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    axis: int | Array
    transpose: bool
    normalize: bool

class InputParameterKeywords(TypedDict, total=False):
    shape: BlobShapeKeywords | caffe_pb2.BlobShape | Sequence[BlobShapeKeywords | caffe_pb2.BlobShape]

class InterpParameterKeywords(TypedDict, total=False):
    height: int | Array
    width: int | Array
    zoom_factor: int | Array
    shrink_factor: int | Array
    pad_beg: int | Array
    pad_end: int | Array
    use_blob_size: bool

class LRNParameterKeywords(TypedDict, total=False):
    local_size: int | Array
    alpha: float | Array
    beta: float | Array
    norm_region: int | Literal['ACROSS_CHANNELS', 'WITHIN_CHANNEL']
    k: float | Array
    engine: int | Literal['DEFAULT', 'CAFFE', 'CUDNN', 'MKL2017', 'MKLDNN']

class RecurrentParameterKeywords(TypedDict, total=False):
    num_output: int | Array
    weight_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    bias_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    debug_info: bool
    expose_hidden: bool

class LogParameterKeywords(TypedDict, total=False):
    base: float | Array
    scale: float | Array
    shift: float | Array

class MVNParameterKeywords(TypedDict, total=False):
    normalize_variance: bool
    across_channels: bool
    eps: float | Array

class MemoryDataParameterKeywords(TypedDict, total=False):
    batch_size: int | Array
    channels: int | Array
    height: int | Array
    width: int | Array

class MultiBoxLossParameterKeywords(TypedDict, total=False):
    loc_loss_type: int | Literal['L2', 'SMOOTH_L1']
    conf_loss_type: int | Literal['SOFTMAX', 'LOGISTIC']
    loc_weight: float | Array
    num_classes: int | Array
    share_location: bool
    match_type: int | Literal['BIPARTITE', 'PER_PREDICTION']
    overlap_threshold: float | Array
    use_prior_for_matching: bool
    background_label_id: int | Array
    use_difficult_gt: bool
    do_neg_mining: bool
    neg_pos_ratio: float | Array
    neg_overlap: float | Array
    code_type: int | Literal['CORNER', 'CENTER_SIZE', 'CORNER_SIZE']
    encode_variance_in_target: bool
    map_object_to_agnostic: bool
    ignore_cross_boundary_bbox: bool
    bp_inside: bool
    mining_type: int | Literal['NONE', 'MAX_NEGATIVE', 'HARD_EXAMPLE']
    nms_param: NonMaximumSuppressionParameterKeywords | caffe_pb2.NonMaximumSuppressionParameter
    sample_size: int | Array

class MultiStageMeanfieldParameterKeywords(TypedDict, total=False):
    compatibility_mode: int | Literal['POTTS']
    threshold: float | Array
    theta_alpha: float | Array
    theta_beta: float | Array
    theta_gamma: float | Array
    num_iterations: int | Array
    spatial_filter_weight: float | Array
    bilateral_filter_weight: float | Array
    spatial_filter_weights_str: str
    bilateral_filter_weights_str: str
    force_cpu: bool

class PoolingParameterKeywords(TypedDict, total=False):
    pool: int | Literal['MAX', 'AVE', 'STOCHASTIC']
    kernel_size: int | Array
    stride: int | Array
    pad: int | Array
    kernel_h: int | Array
    kernel_w: int | Array
    stride_h: int | Array
    stride_w: int | Array
    pad_h: int | Array
    pad_w: int | Array
    engine: int | Literal['DEFAULT', 'CAFFE', 'CUDNN', 'MKL2017', 'MKLDNN']
    global_pooling: bool
    round_mode: int | Literal['CEIL', 'FLOOR']
    ceil_mode: bool
    kernel_depth: int | Array
    temporal_stride: int | Array
    temporal_pad: int | Array
    pad_shape: BlobShapeKeywords | caffe_pb2.BlobShape
    kernel_shape: BlobShapeKeywords | caffe_pb2.BlobShape
    stride_shape: BlobShapeKeywords | caffe_pb2.BlobShape

class NormalizeParameterKeywords(TypedDict, total=False):
    across_spatial: bool
    scale_filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    channel_shared: bool
    eps: float | Array

class PReLUParameterKeywords(TypedDict, total=False):
    filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    channel_shared: bool

class PSROIPoolingParameterKeywords(TypedDict, total=False):
    spatial_scale: float | Array
    output_dim: int | Array
    group_size: int | Array

class ParameterParameterKeywords(TypedDict, total=False):
    shape: BlobShapeKeywords | caffe_pb2.BlobShape
    filler: FillerParameterKeywords | caffe_pb2.FillerParameter

class PermuteParameterKeywords(TypedDict, total=False):
    order: int | Array | Sequence[int | Array]

class PowerParameterKeywords(TypedDict, total=False):
    power: float | Array
    scale: float | Array
    shift: float | Array

class PriorBoxParameterKeywords(TypedDict, total=False):
    min_size: float | Array | Sequence[float | Array]
    max_size: float | Array | Sequence[float | Array]
    aspect_ratio: float | Array | Sequence[float | Array]
    flip: bool
    clip: bool
    variance: float | Array | Sequence[float | Array]
    img_size: int | Array
    img_h: int | Array
    img_w: int | Array
    step: float | Array
    step_h: float | Array
    step_w: float | Array
    offset: float | Array
    width: float | Array | Sequence[float | Array]
    height: float | Array | Sequence[float | Array]

class ProposalParameterKeywords(TypedDict, total=False):
    feat_stride: int | Array
    base_size: int | Array
    min_size: int | Array
    ratio: float | Array | Sequence[float | Array]
    scale: float | Array | Sequence[float | Array]
    pre_nms_topn: int | Array
    post_nms_topn: int | Array
    nms_thresh: float | Array

class PythonParameterKeywords(TypedDict, total=False):
    module: str
    layer: str
    param_str: str
    share_in_parallel: bool

class ROIPoolingParameterKeywords(TypedDict, total=False):
    pooled_h: int | Array
    pooled_w: int | Array
    spatial_scale: float | Array
    pad_ratio: float | Array

class ReLUParameterKeywords(TypedDict, total=False):
    negative_slope: float | Array
    engine: int | Literal['DEFAULT', 'CAFFE', 'CUDNN', 'MKL2017', 'MKLDNN']

class ReLU6ParameterKeywords(TypedDict, total=False):
    negative_slope: float | Array

class ReductionParameterKeywords(TypedDict, total=False):
    operation: int | Literal['SUM', 'ASUM', 'SUMSQ', 'MEAN']
    axis: int | Array
    coeff: float | Array

class ReorgParameterKeywords(TypedDict, total=False):
    stride: int | Array
    reverse: bool

class ReshapeParameterKeywords(TypedDict, total=False):
    shape: BlobShapeKeywords | caffe_pb2.BlobShape
    axis: int | Array
    num_axes: int | Array

class SPPParameterKeywords(TypedDict, total=False):
    pyramid_height: int | Array
    pool: int | Literal['MAX', 'AVE', 'STOCHASTIC']
    engine: int | Literal['DEFAULT', 'CAFFE', 'CUDNN', 'MKL2017', 'MKLDNN']

class ScaleParameterKeywords(TypedDict, total=False):
    axis: int | Array
    num_axes: int | Array
    filler: FillerParameterKeywords | caffe_pb2.FillerParameter
    bias_term: bool
    bias_filler: FillerParameterKeywords | caffe_pb2.FillerParameter

class SegAccuracyParameterKeywords(TypedDict, total=False):
    metric: int | Literal['PixelAccuracy', 'ClassAccuracy', 'PixelIOU']
    ignore_label: int | Array | Sequence[int | Array]
    reset: bool

class ShuffleChannelParameterKeywords(TypedDict, total=False):
    group: int | Array

class SigmoidParameterKeywords(TypedDict, total=False):
    engine: int | Literal['DEFAULT', 'CAFFE', 'CUDNN', 'MKL2017', 'MKLDNN']

class SliceParameterKeywords(TypedDict, total=False):
    slice_dim: int | Array
    slice_point: int | Array | Sequence[int | Array]
    axis: int | Array

class SmoothL1LossParameterKeywords(TypedDict, total=False):
    sigma: float | Array

class SoftmaxParameterKeywords(TypedDict, total=False):
    engine: int | Literal['DEFAULT', 'CAFFE', 'CUDNN', 'MKL2017', 'MKLDNN']
    axis: int | Array

class SwishParameterKeywords(TypedDict, total=False):
    beta: float | Array

class TanHParameterKeywords(TypedDict, total=False):
    engine: int | Literal['DEFAULT', 'CAFFE', 'CUDNN', 'MKL2017', 'MKLDNN']

class ThresholdParameterKeywords(TypedDict, total=False):
    threshold: float | Array

class TileParameterKeywords(TypedDict, total=False):
    axis: int | Array
    tiles: int | Array

class UnpoolingParameterKeywords(TypedDict, total=False):
    unpool: int | Literal['MAX', 'AVE', 'TILE']
    kernel_size: int | Array
    stride: int | Array
    pad: int | Array
    kernel_h: int | Array
    kernel_w: int | Array
    stride_h: int | Array
    stride_w: int | Array
    pad_h: int | Array
    pad_w: int | Array
    engine: int | Literal['DEFAULT', 'CAFFE']
    unpool_size: int | Array
    unpool_h: int | Array
    unpool_w: int | Array

class UpsampleParameterKeywords(TypedDict, total=False):
    scale: int | Array
    scale_h: int | Array
    scale_w: int | Array
    pad_out_h: bool
    pad_out_w: bool
    upsample_h: int | Array
    upsample_w: int | Array

class VideoDataParameterKeywords(TypedDict, total=False):
    source: str
    batch_size: int | Array
    new_height: int | Array
    new_width: int | Array
    new_length: int | Array
    shuffle: bool
    num_segments: int | Array
    modality: int | Literal['RGB', 'FLOW']
    name_pattern: str
    length_first: bool
    root_folder: str
    show_data: bool
    use_image: bool
    use_temporal_jitter: bool
    sampling_rate: int | Array
    video_type: int | Literal['WEBCAM', 'VIDEO']
    device_id: int | Array
    video_file: str
    skip_frames: int | Array

class WindowDataParameterKeywords(TypedDict, total=False):
    source: str
    scale: float | Array
    mean_file: str
    batch_size: int | Array
    crop_size: int | Array
    mirror: bool
    fg_threshold: float | Array
    bg_threshold: float | Array
    fg_fraction: float | Array
    context_pad: int | Array
    crop_mode: str
    cache_images: bool
    root_folder: str

class YoloDetectionOutputParameterKeywords(TypedDict, total=False):
    side: int | Array
    num_classes: int | Array
    num_box: int | Array
    coords: int | Array
    confidence_threshold: float | Array
    nms_threshold: float | Array
    biases: float | Array | Sequence[float | Array]
    label_map_file: str

class Yolov3DetectionOutputParameterKeywords(TypedDict, total=False):
    num_classes: int | Array
    num_box: int | Array
    confidence_threshold: float | Array
    nms_threshold: float | Array
    biases: float | Array | Sequence[float | Array]
    anchors_scale: int | Array | Sequence[int | Array]
    mask_group_num: int | Array
    mask: int | Array | Sequence[int | Array]
    gaussian_box: bool

class Layers:
    def AbsVal(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[AbsValKeywords]) -> Any: ...
    def Accuracy(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[AccuracyKeywords]) -> Any: ...
    def AnnotatedData(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[AnnotatedDataKeywords]) -> Any: ...
    def ArgMax(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ArgMaxKeywords]) -> Any: ...
    def Axpy(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[AxpyKeywords]) -> Any: ...
    def BN(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[BNKeywords]) -> Any: ...
    def BNLL(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[BNLLKeywords]) -> Any: ...
    def BatchNorm(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[BatchNormKeywords]) -> Any: ...
    def BatchReindex(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[BatchReindexKeywords]) -> Any: ...
    def Bias(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[BiasKeywords]) -> Any: ...
    def BoxAnnotatorOHEM(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[BoxAnnotatorOHEMKeywords]) -> Any: ...
    def Clip(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ClipKeywords]) -> Any: ...
    def Concat(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ConcatKeywords]) -> Any: ...
    def ContrastiveLoss(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ContrastiveLossKeywords]) -> Any: ...
    def Convolution(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ConvolutionKeywords]) -> Any: ...
    def Convolution3D(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[Convolution3DKeywords]) -> Any: ...
    def ConvolutionDepthwise(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ConvolutionDepthwiseKeywords]) -> Any: ...
    def Crop(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[CropKeywords]) -> Any: ...
    def Data(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[DataKeywords]) -> Any: ...
    def Deconvolution(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[DeconvolutionKeywords]) -> Any: ...
    def Deconvolution3D(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[Deconvolution3DKeywords]) -> Any: ...
    def DenseImageData(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[DenseImageDataKeywords]) -> Any: ...
    def DepthwiseConvolution(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[DepthwiseConvolutionKeywords]) -> Any: ...
    def DetectionEvaluate(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[DetectionEvaluateKeywords]) -> Any: ...
    def DetectionOutput(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[DetectionOutputKeywords]) -> Any: ...
    def Dropout(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[DropoutKeywords]) -> Any: ...
    def DummyData(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[DummyDataKeywords]) -> Any: ...
    def ELU(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ELUKeywords]) -> Any: ...
    def Eltwise(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[EltwiseKeywords]) -> Any: ...
    def Embed(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[EmbedKeywords]) -> Any: ...
    def EuclideanLoss(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[EuclideanLossKeywords]) -> Any: ...
    def Exp(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ExpKeywords]) -> Any: ...
    def Filter(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[FilterKeywords]) -> Any: ...
    def Flatten(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[FlattenKeywords]) -> Any: ...
    def GSTiling(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[GSTilingKeywords]) -> Any: ...
    def HDF5Data(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[HDF5DataKeywords]) -> Any: ...
    def HDF5Output(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[HDF5OutputKeywords]) -> Any: ...
    def HingeLoss(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[HingeLossKeywords]) -> Any: ...
    def Im2col(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[Im2colKeywords]) -> Any: ...
    def ImageData(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ImageDataKeywords]) -> Any: ...
    def ImageLabelmapData(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ImageLabelmapDataKeywords]) -> Any: ...
    def ImageSegData(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ImageSegDataKeywords]) -> Any: ...
    def InfogainLoss(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[InfogainLossKeywords]) -> Any: ...
    def InnerProduct(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[InnerProductKeywords]) -> Any: ...
    def Input(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[InputKeywords]) -> Any: ...
    def Interp(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[InterpKeywords]) -> Any: ...
    def LRN(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[LRNKeywords]) -> Any: ...
    def LSTM(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[LSTMKeywords]) -> Any: ...
    def LSTMUnit(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[LSTMUnitKeywords]) -> Any: ...
    def Log(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[LogKeywords]) -> Any: ...
    def MVN(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[MVNKeywords]) -> Any: ...
    def MemoryData(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[MemoryDataKeywords]) -> Any: ...
    def MultiBoxLoss(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[MultiBoxLossKeywords]) -> Any: ...
    def MultiStageMeanfield(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[MultiStageMeanfieldKeywords]) -> Any: ...
    def MultinomialLogisticLoss(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[MultinomialLogisticLossKeywords]) -> Any: ...
    def NdConvolution(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[NdConvolutionKeywords]) -> Any: ...
    def NdPooling(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[NdPoolingKeywords]) -> Any: ...
    def Normalize(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[NormalizeKeywords]) -> Any: ...
    def PReLU(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[PReLUKeywords]) -> Any: ...
    def PSROIPooling(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[PSROIPoolingKeywords]) -> Any: ...
    def Parameter(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ParameterKeywords]) -> Any: ...
    def Permute(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[PermuteKeywords]) -> Any: ...
    def Pooling(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[PoolingKeywords]) -> Any: ...
    def Pooling3D(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[Pooling3DKeywords]) -> Any: ...
    def Power(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[PowerKeywords]) -> Any: ...
    def PriorBox(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[PriorBoxKeywords]) -> Any: ...
    def PriorBoxClustered(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[PriorBoxClusteredKeywords]) -> Any: ...
    def Proposal(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ProposalKeywords]) -> Any: ...
    def Python(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[PythonKeywords]) -> Any: ...
    def RNN(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[RNNKeywords]) -> Any: ...
    def ROIAlign(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ROIAlignKeywords]) -> Any: ...
    def ROIPooling(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ROIPoolingKeywords]) -> Any: ...
    def ReLU(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ReLUKeywords]) -> Any: ...
    def ReLU6(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ReLU6Keywords]) -> Any: ...
    def Reduction(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ReductionKeywords]) -> Any: ...
    def Reorg(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ReorgKeywords]) -> Any: ...
    def Reshape(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ReshapeKeywords]) -> Any: ...
    def SPP(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SPPKeywords]) -> Any: ...
    def Scale(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ScaleKeywords]) -> Any: ...
    def SegAccuracy(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SegAccuracyKeywords]) -> Any: ...
    def ShuffleChannel(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ShuffleChannelKeywords]) -> Any: ...
    def Sigmoid(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SigmoidKeywords]) -> Any: ...
    def SigmoidCrossEntropyLoss(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SigmoidCrossEntropyLossKeywords]) -> Any: ...
    def Silence(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SilenceKeywords]) -> Any: ...
    def Slice(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SliceKeywords]) -> Any: ...
    def SmoothL1Loss(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SmoothL1LossKeywords]) -> Any: ...
    def SmoothL1LossOHEM(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SmoothL1LossOHEMKeywords]) -> Any: ...
    def Softmax(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SoftmaxKeywords]) -> Any: ...
    def SoftmaxWithLoss(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SoftmaxWithLossKeywords]) -> Any: ...
    def SoftmaxWithLossOHEM(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SoftmaxWithLossOHEMKeywords]) -> Any: ...
    def Split(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SplitKeywords]) -> Any: ...
    def Swish(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[SwishKeywords]) -> Any: ...
    def TanH(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[TanHKeywords]) -> Any: ...
    def Threshold(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[ThresholdKeywords]) -> Any: ...
    def Tile(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[TileKeywords]) -> Any: ...
    def Unpooling(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[UnpoolingKeywords]) -> Any: ...
    def Upsample(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[UpsampleKeywords]) -> Any: ...
    def VideoData(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[VideoDataKeywords]) -> Any: ...
    def WindowData(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[WindowDataKeywords]) -> Any: ...
    def YoloDetectionOutput(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[YoloDetectionOutputKeywords]) -> Any: ...
    def Yolov3DetectionOutput(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[Yolov3DetectionOutputKeywords]) -> Any: ...
    def __getattr__(self, name: str) -> Callable[..., Any]: ...

class Parameters:
    class Filler:
        AVERAGE: Final = 2
        FAN_IN: Final = 0
        FAN_OUT: Final = 1
    class Solver:
        ADADELTA: Final = 4
        ADAGRAD: Final = 2
        ADAM: Final = 5
        BINARYPROTO: Final = 1
        CPU: Final = 0
        GPU: Final = 1
        HDF5: Final = 0
        NESTEROV: Final = 1
        RMSPROP: Final = 3
        SGD: Final = 0
    class Convolution:
        CAFFE: Final = 1
        CUDNN: Final = 2
        DEFAULT: Final = 0
        MKL2017: Final = 3
        MKLDNN: Final = 4
    class Data:
        LEVELDB: Final = 0
        LMDB: Final = 1
    class Eltwise:
        MAX: Final = 2
        PROD: Final = 0
        SUM: Final = 1
    class HingeLoss:
        L1: Final = 1
        L2: Final = 2
    class ImageData:
        IMAGE: Final = 1
        NONE: Final = 0
        PIXEL: Final = 2
    class Loss:
        BATCH_SIZE: Final = 2
        FULL: Final = 0
        NONE: Final = 3
        PRE_FIXED: Final = 1000
        VALID: Final = 1
    class LRN:
        ACROSS_CHANNELS: Final = 0
        CAFFE: Final = 1
        CUDNN: Final = 2
        DEFAULT: Final = 0
        MKL2017: Final = 3
        MKLDNN: Final = 4
        WITHIN_CHANNEL: Final = 1
    class Pooling:
        AVE: Final = 1
        CAFFE: Final = 1
        CEIL: Final = 0
        CUDNN: Final = 2
        DEFAULT: Final = 0
        FLOOR: Final = 1
        MAX: Final = 0
        MKL2017: Final = 3
        MKLDNN: Final = 4
        STOCHASTIC: Final = 2
    class Reduction:
        ASUM: Final = 2
        MEAN: Final = 4
        SUM: Final = 1
        SUMSQ: Final = 3
    class ReLU:
        CAFFE: Final = 1
        CUDNN: Final = 2
        DEFAULT: Final = 0
        MKL2017: Final = 3
        MKLDNN: Final = 4
    class Sigmoid:
        CAFFE: Final = 1
        CUDNN: Final = 2
        DEFAULT: Final = 0
        MKL2017: Final = 3
        MKLDNN: Final = 4
    class Softmax:
        CAFFE: Final = 1
        CUDNN: Final = 2
        DEFAULT: Final = 0
        MKL2017: Final = 3
        MKLDNN: Final = 4
    class SPP:
        AVE: Final = 1
        CAFFE: Final = 1
        CUDNN: Final = 2
        DEFAULT: Final = 0
        MAX: Final = 0
        MKL2017: Final = 3
        MKLDNN: Final = 4
        STOCHASTIC: Final = 2
    class TanH:
        CAFFE: Final = 1
        CUDNN: Final = 2
        DEFAULT: Final = 0
        MKL2017: Final = 3
        MKLDNN: Final = 4
    class BN:
        CAFFE: Final = 1
        CUDNN: Final = 2
        DEFAULT: Final = 0
        INFERENCE: Final = 1
        LEARN: Final = 0
        MKL2017: Final = 3
        MKLDNN: Final = 4
    class MultiBoxLoss:
        BIPARTITE: Final = 0
        HARD_EXAMPLE: Final = 2
        L2: Final = 0
        LOGISTIC: Final = 1
        MAX_NEGATIVE: Final = 1
        NONE: Final = 0
        PER_PREDICTION: Final = 1
        SMOOTH_L1: Final = 1
        SOFTMAX: Final = 0
    class MultiStageMeanfield:
        POTTS: Final = 0
    class PriorBox:
        CENTER_SIZE: Final = 2
        CORNER: Final = 1
        CORNER_SIZE: Final = 3
    class Resize:
        AREA: Final = 2
        CONSTANT: Final = 1
        CUBIC: Final = 4
        FIT_LARGE_SIZE_AND_PAD: Final = 3
        FIT_SMALL_SIZE: Final = 2
        LANCZOS4: Final = 5
        LINEAR: Final = 1
        MIRRORED: Final = 2
        NEAREST: Final = 3
        REPEAT_NEAREST: Final = 3
        WARP: Final = 1
    class SegAccuracy:
        ClassAccuracy: Final = 1
        PixelAccuracy: Final = 0
        PixelIOU: Final = 2
    class Unpooling:
        AVE: Final = 1
        CAFFE: Final = 1
        DEFAULT: Final = 0
        MAX: Final = 0
        TILE: Final = 2
    class VideoData:
        FLOW: Final = 1
        RGB: Final = 0
        VIDEO: Final = 1
        WEBCAM: Final = 0
    class V1Layer:
        ABSVAL: Final = 35
        ACCURACY: Final = 1
        ARGMAX: Final = 30
        BN: Final = 1000
        BNLL: Final = 2
        CONCAT: Final = 3
        CONTRASTIVE_LOSS: Final = 37
        CONVOLUTION: Final = 4
        CONVOLUTION3D: Final = 1008
        CROP: Final = 1001
        DATA: Final = 5
        DECONVOLUTION: Final = 39
        DECONVOLUTION3D: Final = 1009
        DENSE_IMAGE_DATA: Final = 1002
        DROPOUT: Final = 6
        DUMMY_DATA: Final = 32
        ELTWISE: Final = 25
        EUCLIDEAN_LOSS: Final = 7
        EXP: Final = 38
        FLATTEN: Final = 8
        HDF5_DATA: Final = 9
        HDF5_OUTPUT: Final = 10
        HINGE_LOSS: Final = 28
        IM2COL: Final = 11
        IMAGE_DATA: Final = 12
        IMAGE_SEG_DATA: Final = 1005
        INFOGAIN_LOSS: Final = 13
        INNER_PRODUCT: Final = 14
        INTERP: Final = 1007
        LRN: Final = 15
        MEMORY_DATA: Final = 29
        MULTINOMIAL_LOGISTIC_LOSS: Final = 16
        MULTI_STAGE_MEANFIELD: Final = 1012
        MVN: Final = 34
        NONE: Final = 0
        PERMISSIVE: Final = 1
        POOLING: Final = 17
        POOLING3D: Final = 1010
        POWER: Final = 26
        RELU: Final = 18
        SEG_ACCURACY: Final = 1006
        SIGMOID: Final = 19
        SIGMOID_CROSS_ENTROPY_LOSS: Final = 27
        SILENCE: Final = 36
        SLICE: Final = 33
        SOFTMAX: Final = 20
        SOFTMAX_LOSS: Final = 21
        SPLIT: Final = 22
        STRICT: Final = 0
        TANH: Final = 23
        THRESHOLD: Final = 31
        UNPOOLING: Final = 1003
        UPSAMPLE: Final = 1004
        VIDEO_DATA: Final = 1011
        WINDOW_DATA: Final = 24
    class V0Layer:
        AVE: Final = 1
        MAX: Final = 0
        STOCHASTIC: Final = 2

layers: Layers
params: Parameters
