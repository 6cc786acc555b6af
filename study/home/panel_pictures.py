"""What figures of kind `panels` are drawn from: NumPy archives in the folder of the task that made them.

A trainer names the archives of a finished task (`study.trainers.Trainer.archives`). The arrays of an archive, for k
examples of side S, q queries and n points:

| name | array | what |
|---|---|---|
| images | uint8 (k, S, S, 3) | the examples, the same for every run |
| prompts | text (k) | what Grad-CAM looks for in each; empty: nothing, and its map is 0 |
| grad_cam | uint8 (k, S, S) | 0 to 255: the example's strongest evidence for the prompt |
| texts | text (k, t) | texts that each example is compared with; empty: none |
| similarity | float32 (k, t, n, n) | cosine of each of n × n patches with the text; 0 where there is none |
| truth | uint8 (k, S, S) | given label of each pixel; 255: none; absent where one prompt for all is segmented |
| segments | uint8 (k, S, S) | predicted label of each pixel; 255: none |
| names | text (labels) | of the labels of pixels and boxes, the background first |
| fine_tuned | uint8 (k, S, S) | as segments, by a model that was trained to segment |
| boxes_truth | float32 (k, m, 4) | given boxes: left, top, right, bottom in pixels |
| labels_truth | int64 (k, m) | given label of each; 0: there are fewer boxes |
| boxes | float32 (k, m, 4) | predicted boxes, those of a score of a half or more |
| labels_found | int64 (k, m) | predicted label of each; 0: there are fewer boxes |
| masks | uint8 (k, S, S) | predicted label of the pixels of their masks, of the highest score; 0: of none |
| visible | uint8 (k, S, S) | 1 where the model saw the pixel |
| restored | uint8 (k, S, S, 3) | the examples, hidden patches as the decoder has them |
| queries | text (q) | captions |
| found | uint8 (q, 5, S, S, 3) | nearest images of the test split, the best first |
| hits | bool (q, 5) | whether an image belongs to the caption |
| points | float32 (n, 2) | t-SNE of the features |
| labels | int64 (n) | class of each point |
| classes | text (classes) | |
"""

from __future__ import annotations

NEEDED = {
    "grad_cam": ("images", "prompts", "grad_cam"),
    "similarity": ("images", "texts", "similarity"),
    "segmentation": ("images", "segments", "names"),
    "fine_tuned_segmentation": ("images", "truth", "fine_tuned", "names"),
    "detection": ("images", "truth", "boxes_truth", "labels_truth", "masks", "boxes", "labels_found", "names"),
    "reconstruction": ("images", "visible", "restored"),
    "retrieval": ("queries", "found", "hits"),
    "tsne": ("points", "labels", "classes"),
}
"""Picture -> the arrays that it is made of."""
BESIDE = {"segmentation": ("truth",)}
"""Picture -> arrays that it also shows where they are kept."""
