"""Several processes compute what one does: rows of the data, shares of the losses, gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from forked import Forked
from tiny_run import CANCELLED, MODEL, OBJECTIVES, make_batch, make_config

from ablative.study.core.errors import ConfigError, DataError
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.data.pairs.loader import Loader
from ablative.trainer.clip.objectives.losses import contrastive_loss, contrastive_share, local_contrastive_loss
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.checks import check_run
from ablative.trainer.clip.spec.config import RunConfig, RuntimeConfig
from ablative.trainer.clip.step import Gradients
from ablative.trainer.clip.train import _share_broken
from ablative.trainer.torch.distributed import ALONE, World
from ablative.trainer.torch.process_group import team

CPU = torch.device("cpu")


# ---- whose rows


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_rows_make_up_the_batch(size: int) -> None:
    for total in (size, 7, 8, 10):
        parts = [World(rank, size).rows(total) for rank in range(size)]
        assert [row for part in parts for row in range(total)[part]] == list(range(total))
        lengths = [part.stop - part.start for part in parts]
        assert max(lengths) - min(lengths) <= 1


def test_more_processes_than_rows() -> None:
    with pytest.raises(ConfigError, match="a batch of 3 cannot be shared among 4 processes"):
        World(0, 4).rows(3)
    with pytest.raises(ConfigError, match=r"runtime\.processes: 9 cannot share a batch of 8"):
        check_run(make_config(runtime__processes=9))


def make_loader(rows: slice = slice(None), max_broken: float = 0.0) -> Loader:
    """Of 20 pairs in an order that depends on the epoch, 6 at a time."""

    class Pairs:
        native_size = 0

        def __len__(self) -> int:
            return 20

        def order(self, seed: int, epoch: int) -> np.ndarray:
            return np.random.default_rng((seed, epoch)).permutation(20)

    tokenizer: Any = SimpleNamespace(context_length=4)
    pairs: Any = Pairs()
    return Loader(pairs, tokenizer, 6, 8, seed=3, crop_scale=0.5, max_broken=max_broken, rows=rows)


def test_every_sample_once_an_epoch_whatever_number_of_processes_reads_it() -> None:
    """Three epochs are ten steps; the number of processes changes in the middle of an epoch."""
    found = []
    for step in range(10):
        size = (1, 2, 4, 3)[step // 3]
        found += [make_loader(World(rank, size).rows(6)).indices(step) for rank in range(size)]
    whole = make_loader()
    assert np.array_equal(np.concatenate(found), np.concatenate([whole.indices(step) for step in range(10)]))
    for epoch in np.concatenate(found).reshape(3, 20):
        assert sorted(epoch) == list(range(20))


def test_broken_samples_of_all_processes_count_together() -> None:
    class Two(World):
        def collect(self, value: Any) -> list[Any]:
            return [value, {5: "torn", 7: "empty"}]

    loader = make_loader(max_broken=0.1)
    loader.learn({5: "torn"})
    assert _share_broken(loader, Two()) == 2
    loader.learn({7: "empty"})
    with pytest.raises(DataError, match=r"3 of 20 pairs cannot be read, .*\(0\.1\) allows; the last: too long"):
        loader.learn({8: "too long"})


# ---- shares of the contrastive loss


def embeddings(size: int) -> list[torch.Tensor]:
    """Unit vectors of images and of texts, and a logit scale, that ask for gradients."""
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.nn.functional.normalize(torch.randn(size, 6, generator=generator), dim=1) for _ in range(2)]
    return [tensor.requires_grad_() for tensor in (*vectors, torch.tensor(9.0))]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("group", [3, 4, 10])
def test_shares_add_up_to_the_loss_and_its_gradient(group: int, size: int) -> None:
    """Groups lie inside a process's rows, hold them, or are split by them; the last one may be smaller."""
    image, text, scale = embeddings(10)
    loss = contrastive_loss(image, text, scale) if group == 10 else local_contrastive_loss(image, text, scale, group)
    expected = torch.autograd.grad(loss, (image, text, scale))
    shares = [contrastive_share(image, text, scale, World(rank, size).rows(10), group) for rank in range(size)]
    torch.testing.assert_close(torch.stack(shares).sum(), loss)
    gradients = [torch.autograd.grad(share, (image, text, scale)) for share in shares]
    for found, whole in zip(zip(*gradients, strict=True), expected, strict=True):
        torch.testing.assert_close(torch.stack(found).sum(0), whole)


def test_no_process_ever_holds_all_logits() -> None:
    image, text, scale = embeddings(256)
    sizes: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        contrastive_share(image, text, scale, World(1, 32).rows(256), 256).backward()
    assert max(sizes) == 8 * 256


# ---- gradients


def gradients(config: RunConfig, step: int, world: World) -> dict[str, np.ndarray]:
    """Losses, and gradients by parameter, of the batch of which this process takes its rows."""
    torch.manual_seed(1)
    system = System(config.model, config.objective, MODEL.vocab_size)
    size = config.schedule.batch_size
    batch, draws = make_batch(size), system.draw(size, torch.Generator().manual_seed(2))
    rows = world.rows(size)
    assert batch.views is not None
    own = Batch(batch.images[rows], batch.tokens[rows], batch.views[:, rows])
    losses = Gradients(system, config, CPU, world)(step, own, draws[rows])
    found = {"losses": losses.numpy()}
    for name, parameter in system.named_parameters():
        assert parameter.grad is not None, name
        found[name] = parameter.grad.numpy()
    return found


def cases() -> dict[str, tuple[RunConfig, int]]:
    """Ten rows in groups of four: processes get unequal parts, and split groups."""
    return {
        f"{objective}, step {step}, micro-batch {micro}": (
            make_config(objective, schedule__batch_size=10, runtime__micro_batch=micro),
            step,
        )
        for objective in OBJECTIVES
        for step, micro in ((0, 2), (100, 0), (0, 0), (100, 2))[: 4 if "similarity" in objective else 2]
    }


def together(size: int) -> dict[str, dict[str, np.ndarray]]:
    """`gradients` of every case as rank 0 of `size` processes finds them."""

    def follow(world: World) -> None:
        for config, step in cases().values():
            gradients(config, step, world)

    with team(RuntimeConfig(device="cpu", processes=size), follow) as world:
        return {name: gradients(config, step, world) for name, (config, step) in cases().items()}


@pytest.mark.parametrize("size", [2, 4])
def test_gradients_are_those_of_one_process_on_the_whole_batch(size: int) -> None:
    found = Forked(together, size).answer()
    for name, (config, step) in cases().items():
        for key, value in gradients(config, step, ALONE).items():
            if key in CANCELLED:
                continue
            tolerance = 1e-5 * float(abs(value).max()) + 1e-8
            np.testing.assert_allclose(found[name][key], value, rtol=1e-3, atol=tolerance, err_msg=f"{name}: {key}")
