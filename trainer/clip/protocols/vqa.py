"""Visual question answering: a fresh decoder over both frozen encoders picks one answer of the training set's.

MAE-CLIP's section 4.3 and supplement H: image and text tokens are concatenated, get positions and a vector for their
modality, and go through a decoder like that of pretraining; its output at the text's first token (BOS) is projected to
the answers. Learning rates fall with the depth. What the paper leaves open is MAE's fine-tuning recipe here (see
`conf/protocol/vqa_paper.yaml`). MAE has no text encoder: its word embeddings are trained along with the decoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ablative.study.core.errors import DataError
from ablative.trainer.clip.data.questions.questions import Questions, QuestionSplit, Targets, targets, vocabulary
from ablative.trainer.clip.models.blocks import LayerNorm, Transformer, initialise
from ablative.trainer.clip.models.positions import sincos_2d
from ablative.trainer.clip.models.towers import trim_padding
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.protocols.parts.row_store import gathered
from ablative.trainer.clip.protocols.parts.training import batches, layered_adamw, set_rate
from ablative.trainer.clip.spec.config import ModelConfig, ProtocolConfig
from ablative.trainer.clip.token_ids import PAD

INPUTS = ("words", "from_image", "from_text", "text_positions", "modality")
"""Parameters of `Answerer` before its blocks."""
TEXTS = 4096
"""Questions tokenized at a time."""


def vqa(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """accuracy on the test questions, and majority: that of the most frequent answer; percent."""
    splits = {name: evaluation.questions(name) for name in (*_stages(evaluation), "test")}
    training = [splits[name].questions for name in _stages(evaluation)]
    answers = vocabulary(training, evaluation.config.min_answers)
    if len(answers) < 2:
        raise DataError(
            f"data set {evaluation.config.name}: {len(answers)} answers that at least {evaluation.config.min_answers} "
            "training questions have (min_answers); a choice needs 2"
        )
    model = evaluation.representation.system.model
    model = dataclasses.replace(model, decoder_depth=evaluation.protocol.decoder_depth or model.decoder_depth)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(evaluation.protocol.seed)
        uses_text = evaluation.representation.system.recipe.uses_text
        answerer = Answerer(model, len(answers), None if uses_text else evaluation.representation.tokenizer.vocab_size)
    reader = Reader(evaluation.representation, answerer.to(evaluation.representation.device))
    for name, epochs in _stages(evaluation).items():
        fit(reader, splits[name], targets(splits[name].questions, answers), evaluation.protocol, epochs)
    worth = targets(splits["test"].questions, answers)
    predicted = predict(reader, splits["test"], evaluation.protocol.batch_size)
    yield "accuracy", 100.0 * float(worth.score(predicted).mean())
    yield "majority", 100.0 * float(worth.score(np.zeros(len(predicted), dtype=np.int64)).mean())


class Answerer(nn.Module):
    """The decoder with its projection to `answers` answers.

    Positions are those of pretraining's decoder: fixed for patches, learned for words.
    """

    image_positions: torch.Tensor

    def __init__(self, model: ModelConfig, answers: int, vocab_size: int | None) -> None:
        """`vocab_size`: words to embed where there is no text encoder. Draws from torch's global generator."""
        super().__init__()
        width = model.decoder_width
        self.words = None if vocab_size is None else nn.Embedding(vocab_size, model.text_width)
        self.from_image = nn.Linear(model.width, width)
        self.from_text = nn.Linear(model.text_width, width)
        self.register_buffer("image_positions", sincos_2d(width, model.image_size // model.patch_size))
        self.text_positions = nn.Parameter(0.01 * torch.randn(model.context_length, width))
        self.modality = nn.Parameter(0.02 * torch.randn(2, width))
        self.trunk = Transformer(width, model.decoder_depth, model.decoder_heads, model.mlp_ratio)
        self.norm = LayerNorm(width)
        self.answer = nn.Linear(width, answers)
        initialise(self, model.init_std)

    def forward(self, patches: torch.Tensor, words: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """patches (B,N,D), words (B,L,d), valid bool (B,L): not padding → logits (B, answers)."""
        image = self.from_image(patches) + self.image_positions + self.modality[0]
        text = self.from_text(words) + self.text_positions[: words.shape[1]] + self.modality[1]
        attend = torch.cat([valid.new_ones(image.shape[:2]), valid], dim=1)
        x = self.trunk(torch.cat([image, text], dim=1), attend)
        return self.answer(self.norm(x[:, image.shape[1]]))


class Reader:
    """Questions of a split to logits, by the frozen encoders and an `Answerer`."""

    def __init__(self, representation: Representation, answerer: Answerer) -> None:
        self.representation, self.answerer = representation, answerer
        self.device = representation.device

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """int32 (n, L)."""
        blocks = (
            np.asarray(self.representation.tokenizer(list(texts[start : start + TEXTS]))).astype(np.int32)
            for start in range(0, len(texts), TEXTS)
        )
        return gathered(blocks, len(texts), self.representation.paths.features)

    def logits(self, patches: np.ndarray, tokens: np.ndarray) -> torch.Tensor:
        """patches (b,N,D) and tokens (b,L) of b questions → float32 (b, answers)."""
        kept = trim_padding(torch.from_numpy(tokens.astype(np.int64))).to(self.device)
        embed = self.answerer.words or self.representation.text_tokens
        words = embed(kept)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.representation.bf16):
            # A copy: the words were made where no gradient can pass.
            return self.answerer(torch.from_numpy(patches).to(self.device).float(), words.clone(), kept != PAD).float()


def fit(reader: Reader, split: QuestionSplit, worth: Targets, protocol: ProtocolConfig, epochs: int) -> None:
    """Train the reader's decoder on one stage of `epochs`, deterministically by `protocol.seed`.

    Questions without any answer of the vocabulary teach nothing and are left out.
    """
    answerer = reader.answerer.train()
    depth = len(answerer.trunk.blocks)
    optimizer = layered_adamw(answerer, protocol, depth, INPUTS)
    patches = reader.representation.image_tokens(split)
    questions = split.questions
    tokens = reader.tokens(questions.texts)
    useful = np.flatnonzero((worth.ids >= 0).any(axis=1))
    generator = torch.Generator().manual_seed(protocol.seed)
    for drawn, rate in batches(len(useful), protocol, protocol.lr, generator, epochs):
        rows = useful[drawn.numpy()]
        set_rate(optimizer, rate)
        optimizer.zero_grad()
        logits = reader.logits(patches[questions.images[rows]], tokens[rows])
        answer_loss(logits, dense(worth, rows, logits.shape[1]).to(logits.device), protocol.answer_loss).backward()
        optimizer.step()
    answerer.eval()


def predict(reader: Reader, split: QuestionSplit, batch: int) -> np.ndarray:
    """Number of the answer to each question int64 (n,), `metrics.UNDECIDED` where several are equally likely."""
    patches = reader.representation.image_tokens(split)
    questions: Questions = split.questions
    tokens = reader.tokens(questions.texts)
    found = []
    with torch.inference_mode():
        for start in range(0, len(questions), batch):
            rows = slice(start, start + batch)
            logits = reader.logits(patches[questions.images[rows]], tokens[rows])
            found.append(metrics.strict_argmax(logits.cpu().numpy()))
    return np.concatenate(found)


def dense(worth: Targets, rows: np.ndarray, answers: int) -> torch.Tensor:
    """float32 (b, answers): what each answer is worth to the questions `rows` (b,)."""
    ids, scores = torch.from_numpy(worth.ids[rows].astype(np.int64)), torch.from_numpy(worth.scores[rows])
    # Unknown answers have number -1 and no worth.
    return torch.zeros(len(rows), answers).scatter_add_(1, ids.clamp(min=0), scores)


def answer_loss(logits: torch.Tensor, worth: torch.Tensor, kind: str) -> torch.Tensor:
    """Scalar loss of logits (b, A) against what answers are worth (b, A), at least one of them something.

    `cross_entropy`: against worths scaled to sum to 1; with one right answer, the usual loss. `binary`: each answer by
    itself, summed over answers (Teney et al. 2017, as VQAv2 is mostly trained).
    """
    if kind == "binary":
        return F.binary_cross_entropy_with_logits(logits, worth, reduction="sum") / len(logits)
    return F.cross_entropy(logits, worth / worth.sum(dim=1, keepdim=True))


def _stages(evaluation: Evaluation) -> dict[str, int]:
    """Training splits with their epochs, in order."""
    config = evaluation.config
    stages = {"broad": config.first_epochs, "train": config.epochs or evaluation.protocol.epochs}
    return {name: epochs for name, epochs in stages.items() if epochs}
