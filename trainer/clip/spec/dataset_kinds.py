"""Kinds of evaluation sets, and which module of `trainer.clip.data` opens each."""

from __future__ import annotations

EMBEDDED = ("shapes", "digits")
"""Kinds of data that come with the program; all others lie in files and have a content fingerprint."""
FILE_SETS = {
    "image_folder": "sets.image_sets:FolderSet",
    "food101": "sets.listed_sets:FoodSet",
    "cub200": "sets.listed_sets:BirdSet",
    "captions": "sets.image_sets:CaptionSet",
    "voc": "sets.mask_sets:VocSet",
    "masks": "sets.mask_sets:PngSet",
    "ade20k": "sets.mask_sets:SceneSet",
    "panoptic": "sets.mask_sets:PanopticSet",
    "coco_stuff": "sets.mask_sets:StuffSet",
    "pascal_context": "sets.mask_sets:ContextSet",
    "coco_amodal": "sets.amodal:AmodalSet",
    "coco_instances": "sets.instance_sets:CocoInstanceSet",
    "clevr": "questions.question_sets:ClevrSet",
    "vqa_v2": "questions.question_sets:VqaSet",
    "gqa": "questions.question_sets:GqaSet",
}
"""Kinds of evaluation sets whose images are single files → the class in `trainer.clip.data` that opens one."""
QUESTIONS = ("clevr", "vqa_v2", "gqa")
DATASET_KINDS = (*EMBEDDED, "shards", "clip_benchmark", *FILE_SETS)
