"""Typed, frozen configuration of one run and of one evaluation.

These dataclasses are the whole of what a run depends on. `study.core.typed` builds them from plain
dictionaries and reports every unknown key, wrong type and impossible value; `study.core.identity` hashes
them. A field marked ``identity=False`` does not change the result (where, how fast, how it is logged)
and stays out of the hash. A field added after the first release carries ``identity_default``: where it
equals that, it is left out of the hash, so that ids given earlier stay valid.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ablative.study.core.typed import field
from ablative.study.spec.runtime import RuntimeConfig
from ablative.trainer.clip.spec.dataset_kinds import DATASET_KINDS
from ablative.trainer.clip.spec.loss_options import CodesConfig, DistillConfig, MaskConfig, SimclrConfig, ViewsConfig
from ablative.trainer.clip.spec.metrics import PROTOCOL_KINDS
from ablative.trainer.clip.spec.recipes import RECIPES
from ablative.trainer.clip.spec.schedule_config import ScheduleConfig
from ablative.trainer.clip.spec.start_config import StartConfig
from ablative.trainer.clip.spec.training_options import AugmentConfig, DetectionConfig, UpernetConfig

OBJECTIVES = tuple(RECIPES)
POOLINGS = ("map", "gap", "max")
IMAGE_POOLINGS = (*POOLINGS, "cls")
TEXT_POOLINGS = ("same", *POOLINGS, "eos")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Towers, pooling and decoder (MAE-CLIP section 4.1 and supplement Table 8)."""

    name: str = field(identity=False)
    """Preset that this came from; the sizes below are what counts."""
    image_size: int = field(low=8)
    """Side of the square input image, in pixels; a multiple of `patch_size`."""
    patch_size: int = field(low=1)
    """Side of a patch, in pixels."""
    width: int = field(low=8)
    """Image tower width; a multiple of `heads`, and of 4 where positions are fixed (2-D sin-cos)."""
    depth: int = field(low=1)
    """Blocks of the image tower."""
    heads: int = field(low=1)
    """Attention heads of the image tower."""
    stem: str = field("linear", choices=("linear", "conv"))
    """Patch embedding: one linear projection, or four convolutions (Xiao et al. 2021)."""
    text_width: int = field(low=8)
    """Text tower width; a multiple of `text_heads`."""
    text_depth: int = field(low=1)
    """Blocks of the text tower."""
    text_heads: int = field(low=1)
    """Attention heads of the text tower."""
    context_length: int = field(low=4)
    """Text tokens per caption, beginning and end markers included."""
    vocab_size: int = field(low=16)
    """Upper bound of the vocabulary of byte pairs (`data.tokenizer_captions`)."""
    embed_dim: int = field(low=2)
    """Width of the joint embedding space."""
    mlp_ratio: float = field(4.0, above=0)
    """Width of a block's hidden layer over its own."""
    class_token: bool = field(False, identity_default=False)
    """A learned token in front of the patches."""
    positions: str = field("sincos", choices=("sincos", "learned"), identity_default="sincos")
    """Positions of image patches in the tower: fixed 2-D sines and cosines (MAE), or learned (ViT, CLIP)."""
    position_grid: int = field(0, low=0, identity_default=0)
    """Patches along a side for which positions are made, which are then resampled to those of the image (bicubic); 0:
    the image's own. A run that starts from one with smaller images takes that one's."""
    drop_path: float = field(0.0, low=0, below=1, identity_default=0.0)
    """Stochastic depth of the image tower: how often training leaves a residual branch of the last block out, with less
    in earlier ones, linearly (Huang et al. 2016)."""
    text_causal: bool = field(False, identity_default=False)
    """Each token sees those before it alone (CLIP), not the whole caption (MAE-CLIP)."""
    pool_class_token: bool = field(False, identity_default=False)
    """Poolings other than `cls` take the class token in, as one element more (a reading of MaskCLIP's section 3.1)."""
    pooling: str = field("map", choices=IMAGE_POOLINGS)
    """Image pooling: attention head (MAP), mean (GAP) or per-channel maximum (MAX), section 3.1.1; or the class token
    (`cls`)."""
    text_pooling: str = field("same", choices=TEXT_POOLINGS)
    """Text pooling; `same` follows `pooling` (the paper pools "image-patch or text-token outputs"); `eos`: the end
    marker (CLIP)."""
    map_heads: int = field(0, low=0)
    """Heads of the MAP head; 0 takes the tower's own number (big_vision `MAPHead`)."""
    map_residual: bool = field(False)
    """Pre-norm and residual on the MAP probe (axlearn's variant)."""
    ln_after_pool: bool = field(False)
    """Final LayerNorm after pooling (timm) instead of before it (axlearn, CLIPpy)."""
    start: StartConfig = field(StartConfig(), identity_default=StartConfig())
    """Published weights of the image tower."""
    decoder_width: int = field(512, low=8)
    """Width of the decoder that restores masked elements."""
    decoder_depth: int = field(8, low=1)
    """8 in the supplement's Table 8, 12 in the paper's section 4.1."""
    decoder_heads: int = field(8, low=1)
    """Attention heads of the decoder."""
    init_std: float = field(0.02, above=0)
    """Deviation of the initial weights: GPT-2's 0.02 fits widths near 768; at width 64 a contrastive loss then stays at
    ln(batch), so narrow presets take about 1/√width."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is optimised: losses, masking and their weights (sections 3.1 to 3.3)."""

    name: str = field(choices=OBJECTIVES)
    """Which recipe: its losses, and the keys that it reads (`ablate list objective`)."""
    masking: str = field("random", choices=("random", "similarity"))
    """How the reconstructed elements are chosen (section 4.1, supplement J)."""
    mask_ratio: float = field(0.75, low=0, below=1)
    """Share of image patches hidden from the masked pass."""
    text_mask_ratio: float = field(0.75, low=0, below=1)
    """Share of text tokens hidden from the masked pass."""
    input_mask_ratio: float = field(0.75, low=0, below=1)
    """Masked CLIP only: share of patches dropped from the contrastive pass itself (supplement D)."""
    input_text_mask_ratio: float = field(0.0, low=0, below=1, identity_default=0.0)
    """Masked CLIP only: share of the caption's tokens dropped, too. Supplement D masks "similar to how input is masked
    for the generative task in MAE-CLIP": the image (0), or the caption as well (0.75)."""
    hidden_patches: str = field("dropped", choices=("dropped", "mask_token"), identity_default="dropped")
    """Hidden patches are left out of the image tower (MAE), or a learned token is in their place (BEiT, SimMIM)."""
    mask: MaskConfig = field(MaskConfig(), identity_default=MaskConfig())
    """Single patches or rectangles of them are hidden."""
    w_image: float = field(0.1, low=0)
    """Weight of the pixel loss against the mean of both directions of the contrastive loss, once that is global: 0.1 in
    the paper, 0.05 in its supplement."""
    w_text: float = field(0.05, low=0)
    """Weight of the token loss in the same phase: 0.05 in the paper, 0.1 in its supplement."""
    text_loss_norm: str = field("sample", choices=("sample", "token"))
    """Average token losses per sample and then over the batch (M3AE), or over all tokens at once."""
    include_pads: bool = field(False)
    """Count padding towards the text mask ratio, as the M3AE code does."""
    normalize_pixels: bool = field(True)
    """Per-patch normalised targets (MAE, eq. 3)."""
    similarity_select: str = field("high", choices=("high", "low"))
    """Similarity masking hides the elements most (or least) similar to the other modality."""
    similarity_reduce: str = field("pooled", choices=("pooled", "filip_max"))
    """Similarity to the pooled embedding, or the maximum over the other modality's elements."""
    similarity_noise: float = field(1e-6, low=0)
    """Uniform noise added to the similarities, to break ties."""
    temperature: float = field(0.07, above=0)
    """Initial temperature; learned as logit scale = ln(1/temperature)."""
    max_logit_scale: float = field(100.0, low=1)
    """Upper bound of the learned logit scale."""
    local_steps: int = field(500, low=0)
    """Steps with a contrastive loss inside groups of `local_batch` and unweighted losses (section 4.1)."""
    local_batch: int = field(256, low=2)
    """Size of those groups: one device's share in the paper, a separate value here."""
    codes: CodesConfig = field(CodesConfig(), identity_default=CodesConfig())
    """Codes of masked patches, and the tokenizer that gives them; BEiT alone."""
    distill: DistillConfig = field(DistillConfig(), identity_default=DistillConfig())
    """Self-distillation of masked patches; MaskCLIP alone."""
    simclr: SimclrConfig = field(SimclrConfig(), identity_default=SimclrConfig())
    """Contrast between views; SimCLR alone."""
    views: ViewsConfig = field(ViewsConfig(), identity_default=ViewsConfig())
    """Augmentation of these views."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Pretraining pairs. Entered by name, version and content fingerprint, never by path."""

    name: str = field()
    """The name in ids, tables and messages."""
    kind: str = field(choices=("shapes", "shards"))
    """`shapes`: the procedural world; `shards`: WebDataset image-text shards."""
    version: int = field(1, low=1)
    """Version of the content, for data that are made or published in several."""
    fingerprint: str = field("")
    """SHA-256 prefix of the content as `ablate data check` prints it; filled in by the plan for shards."""
    fingerprint_by: str = field("content", choices=("content", "sample"), identity_default="content")
    """Shards: `sample` takes the fingerprint of each shard's size, all of its headers and 64 of its files instead of
    all bytes, which are then not read before training; a file that gives way to one of the same size may escape it."""
    pairs: int = field(0, low=0)
    """Use the first `pairs` samples of the (fixed, shuffled) data; 0 takes all."""
    seed: int = field(0, low=0)
    """Seed of the procedural world and of the subset, not of the run."""
    caption: str = field("txt")
    """Caption source of shards: `txt`, or a key of the JSON (`json.name`)."""
    captions: str = field("first", choices=("first", "epoch"), identity_default="first")
    """Where that key holds several captions: the first of them always, or in each epoch one at random."""
    decoding: str = field("full", choices=("full", "reduced"), identity_default="full")
    """Shards: `reduced` decodes a JPEG to a half, a quarter or an eighth of its sides where every crop of it still has
    as many pixels as the model takes. A large photograph then costs half as much, and its pixels differ a little."""
    exclude: tuple[str, ...] = field((), identity_default=())
    """Shards: pairs one of whose captions holds one of these strings (letter case counts) are no part of the data."""
    exclude_images: str = field("", identity=False)
    """Shards: pairs whose image is in this list, which `ablate data check --write` makes, are no part of the data
    either; a relative path starts at $ABLATE_DATA."""
    exclude_images_fingerprint: str = field("", identity_default="")
    """SHA-256 prefix of that list, filled in by the plan."""
    tokenizer_captions: int = field(20_000, low=1, identity_default=20_000)
    """The tokenizer is fitted on the first so many captions: 20,000 of 12 words fill 12,000 tokens of a vocabulary."""
    tokenizer_texts: str = field("", identity=False)
    """Fit it on the first so many lines of this plain text file instead; a relative path starts at $ABLATE_DATA."""
    tokenizer_fingerprint: str = field("", identity_default="")
    """SHA-256 prefix of that file, filled in by the plan."""
    path: str = field("", identity=False)
    """Shards: folder, glob or brace pattern; relative paths start at $ABLATE_DATA."""
    max_broken: float = field(0.01, low=0, high=1, identity=False)
    """Refuse to train when more than this share of the samples cannot be read."""


@dataclass(frozen=True, kw_only=True)
class ClipRuntimeConfig(RuntimeConfig):
    """Where and how fast: nothing here changes the result."""

    micro_batch: int = field(0, low=0, identity=False)
    """Samples per forward pass of a process, at most; 0: all of its rows of the batch. On a GPU as many as its memory
    holds, and the graphs of as many pieces as it holds are kept instead of being computed again."""
    memory_share: float = field(0.9, above=0, high=1, identity=False)
    """Part of what a GPU has free that pieces of the batch may take by an estimate; where it runs out of memory all the
    same, this and the micro-batch are halved."""
    flags_every: int = field(1, low=1, identity=False)
    """Steps between two exchanges of signals to stop, due checkpoints and unreadable samples among the processes of a
    run."""
    workers: int = field(0, low=0, identity=False)
    """Loader processes of each process."""
    compile: bool = field(False, identity=False)
    """Compile the passes where they run on a GPU; on a CPU it gains nothing and takes minutes."""
    measure_shares: int = field(4, low=0, identity=False)
    """Parts of a run after each of which, and at its first step, is measured how much each of several losses
    contributes to the image tower's gradient (`train/share/…`); a measurement takes a step for each. 0: never."""
    checkpoint_activations: bool = field(False, identity=False)
    """Compute the blocks' inner activations again for the gradient instead of keeping them: less memory, slower."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: a cell with a seed. Its hash is the run id."""

    model: ModelConfig
    """Towers, pooling and decoder."""
    objective: ObjectiveConfig
    """Losses, masking and their weights."""
    schedule: ScheduleConfig
    """Optimiser, length and precision."""
    data: DataConfig
    """Pretraining pairs."""
    seed: int = field(low=0)
    """Seed of initial weights, batches, masks and augmentation; the study gives it."""
    parent: str = field("", identity_default="")
    """Id of the run whose final weights this one starts from (`from:` in a level); empty: random weights."""
    runtime: ClipRuntimeConfig = dataclasses.field(default_factory=ClipRuntimeConfig, metadata={"identity": False})
    """Where and how fast; no part of ids."""


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """One evaluation set."""

    name: str = field()
    """The name in metric names: `<protocol>/<name>/<metric>`."""
    kind: str = field(choices=DATASET_KINDS)
    """Layout of the files, or an embedded set."""
    task: str = field("")
    """Shapes: which label (`shape`, `color`, `count`, …) or questions; shards: JSON key of the label (`concept`);
    coco_amodal: `objects`, each cut out, or whole `images`."""
    train: int = field(0, low=0)
    """Training samples (0: all there are)."""
    test: int = field(0, low=0)
    """Test samples (0: all there are)."""
    train_size: int = field(0, low=0, identity=False)
    """Samples of the published train split (question answering: questions), by which a plan prices the evaluation."""
    test_size: int = field(0, low=0, identity=False)
    """Samples of the published test split, for the same purpose."""
    first_size: int = field(0, low=0, identity=False)
    """Training samples of the broader set that `first_epochs` go to."""
    split: str = field("test", choices=("test", "validation"), identity_default="test")
    """What is scored: the test split, or one that no report touches, by which a search chooses."""
    seed: int = field(0, low=0)
    """Seed of the procedural world and of subsets."""
    templates: str = field("plain")
    """Prompt templates for the class names (`templates.json`); `own`: those of CLIP_benchmark shards."""
    path: str = field("", identity=False)
    """Shards: of the train split. Otherwise the set's own folder; of `captions`, `vqa_v2` and `gqa`, the images'."""
    test_path: str = field("", identity=False)
    """Shards: of the test split. Masks, panoptic and coco_stuff: folder of the PNGs."""
    fingerprint: str = field("")
    """SHA-256 prefix of the content, filled in by the plan."""
    caption: str = field("txt")
    """Shards: caption source, `txt` or a key of the JSON."""
    annotations: str = field("", identity=False)
    """Captions, panoptic and coco_amodal: the JSON. VQAv2 and GQA: the folder of the questions."""
    max_captions: int = field(0, low=0, identity_default=0)
    """Take the first so many captions of each image (retrieval is reported with five); 0 takes all."""
    epochs: int = field(0, low=0, identity_default=0)
    """Question answering: epochs on the training questions; 0 takes the protocol's."""
    first_epochs: int = field(0, low=0, identity_default=0)
    """Question answering: epochs on a broader set before (GQA's train-all); 0: there is no such stage."""
    min_answers: int = field(1, low=1, identity_default=1)
    """Question answering: an answer that fewer training questions have cannot be given."""
    bins: int = field(0, low=0, identity_default=0)
    """clip_benchmark: cut its ordered classes into so many of equal width, as VTAB does dSprites' 40 orientations into
    16; 0 takes them as they are."""
    short_side: int = field(0, low=0, identity_default=0)
    """Segmentation by windows: the shorter side of whole images in pixels; 0: the side of the model's images."""
    long_side: int = field(0, low=0, identity_default=0)
    """Their longer side at most, before which the shorter one gives way; 0: any."""
    classes: str = field("", identity_default="")
    """Class names, synonyms and names of the background from `classes.json`, in the order of the set's labels where it
    has the same names; empty: the data set's own."""


@dataclass(frozen=True, kw_only=True)
class SuiteConfig:
    """Evaluation sets, and which protocol measures on which; a set is a `DatasetConfig` once a protocol needs it."""

    datasets: dict[str, dict[str, object]] = field(written=dict[str, DatasetConfig])
    """Name of a set → its keys."""
    protocols: dict[str, tuple[str, ...]]
    """Kind of protocol → names of sets."""
    groups: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Name, as in `linear_probe/@natural/top1` → names of sets that are averaged (`pets/per_class`: by that metric)."""


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """How a representation is evaluated; the recipe's numbers stand in `conf/protocol`."""

    name: str = field()
    """The name in metric names."""
    kind: str = field(choices=tuple(PROTOCOL_KINDS))
    """What is done; the other keys count where this kind reads them."""
    features: str = field("pooled", choices=("pooled", "projected", "mean"))
    """Input of a linear layer: pooled before projection, after it, or the mean of the tokens whatever the pooling."""
    optimizer: str = field("adamw", choices=("adamw", "lars"))
    """Optimiser of what is trained."""
    lr: float = field(0.01, above=0)
    """AdamW: as is. LARS: per 256 samples (MAE's 0.1)."""
    epochs: int = field(20, low=1)
    """Passes over the training samples."""
    warmup_epochs: int = field(0, low=0)
    """Epochs in which the learning rate rises linearly from 0."""
    batch_size: int = field(1024, low=1)
    """Samples of a step."""
    weight_decay: float = field(0.0, low=0)
    """The optimiser's."""
    batch_norm: bool = field(False)
    """BatchNorm without affine before the linear layer (MAE's recipe, MaskCLIP)."""
    standardize: bool = field(False)
    """Standardise features with the training set's mean and deviation."""
    tap: int = field(0, low=0, identity_default=0)
    """Features `mean` are those after so many blocks of the image tower, without its final norm; 0: after all, with
    it."""
    layer_decay: float = field(1.0, above=0, high=1, identity_default=1.0)
    """Fine-tuning: learning rate of a layer over that of the layer above it (BEiT, MAE)."""
    label_smoothing: float = field(0.0, low=0, below=1, identity_default=0.0)
    """Fine-tuning: share of a label that goes to all classes alike."""
    lr_floor: float = field(0.0, low=0, identity_default=0.0)
    """Fine-tuning: learning rate at the end of its fall, before the share of a layer."""
    drop_path: float = field(0.0, low=0, below=1, identity_default=0.0)
    """Fine-tuning: stochastic depth as `model.drop_path`, whatever the pretraining had."""
    augment: AugmentConfig = field(AugmentConfig(), identity_default=AugmentConfig())
    """Fine-tuning: how training images are changed."""
    upernet: UpernetConfig = field(UpernetConfig(), identity_default=UpernetConfig())
    """Semantic segmentation by fine-tuning: `upernet` alone."""
    detection: DetectionConfig = field(DetectionConfig(), identity_default=DetectionConfig())
    """Detection by fine-tuning: `detection` alone."""
    answer_loss: str = field("cross_entropy", choices=("cross_entropy", "binary"), identity_default="cross_entropy")
    """Question answering: one answer out of all, each weighed by what it is worth, or every answer by itself, which is
    usual on VQAv2 (Teney et al. 2017)."""
    repeated_captions: str = field("merged", choices=("merged", "own"), identity_default="merged")
    """Retrieval: a caption that several images carry is one text that may find any of them, or a text for each of them,
    right with its own image alone (`own`: CLIP_benchmark's counting)."""
    decoder_depth: int = field(0, low=0, identity_default=0)
    """Question answering: blocks of the fresh decoder; 0 takes `model.decoder_depth`."""
    prompt: str = field("")
    """Segmentation: template of the class prompt (`a photo of {a} {}`: the right article, the name); empty takes
    the data set's templates."""
    patch_features: str = field("tokens", choices=("tokens", "values"), identity_default="tokens")
    """Segmentation, panels: what of a patch is compared with texts: its token, or the value path of the last block, in
    which no patch attends to another (DenseCLIP)."""
    stride: float = field(0.0, low=0, high=1, identity_default=0.0)
    """Segmentation: windows of the model's image size slide over whole images by so much of their side, and scores are
    averaged where they overlap; 0: the central square alone, resized."""
    background: bool = field(True)
    """Segmentation: label 0 is a class, background, and counts in the mean IoU; without, its pixels are ignored."""
    background_names: str = field("background", identity_default="background")
    """Segmentation: names, separated by commas, that all mean the background; those of a data set's own
    list go first (`DatasetConfig.classes`)."""
    seed: int = field(0, low=0)
    """Seed of the probe's initialisation and order."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """One evaluation of one run: its hash covers the run's id."""

    run_id: str = field()
    """Id of the run whose weights are evaluated."""
    protocol: ProtocolConfig
    """How it is evaluated."""
    datasets: tuple[DatasetConfig, ...]
    """Evaluation sets."""
