"""A classifier of made-up points behind `LightningCLI`."""

import json
import os

import lightning
import torch
from lightning.pytorch.cli import LightningCLI


class Points(lightning.LightningDataModule):
    """Points within and outside a circle."""

    def __init__(self, count: int = 512, batch_size: int = 32):
        super().__init__()
        self.count, self.batch_size = count, batch_size

    def _loader(self, count, seed, shuffle=False):
        x = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
        data = torch.utils.data.TensorDataset(x, (x.norm(dim=1) > 1.2).long())
        return torch.utils.data.DataLoader(data, self.batch_size, shuffle=shuffle)

    def train_dataloader(self):
        return self._loader(self.count, 1, shuffle=True)

    def val_dataloader(self):
        return self._loader(256, 2)

    def test_dataloader(self):
        return self._loader(256, 3)


class Classifier(lightning.LightningModule):
    """Two layers."""

    def __init__(self, width: int = 16, rate: float = 0.01):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))

    def _loss(self, batch, name):
        x, y = batch
        logits = self.net(x)
        loss = torch.nn.functional.cross_entropy(logits, y)
        accuracy = (logits.argmax(1) == y).float().mean()
        self.log_dict({f"{name}_loss": loss, f"{name}_acc": accuracy}, on_epoch=True, on_step=False)
        return loss

    def training_step(self, batch, index):
        return self._loss(batch, "train")

    def validation_step(self, batch, index):
        self._loss(batch, "val")

    def test_step(self, batch, index):
        self._loss(batch, "test")

    def on_test_end(self):
        found = {name: value.item() for name, value in self.trainer.callback_metrics.items()}
        with open(os.path.join(self.trainer.default_root_dir, "test.json"), "w") as file:
            json.dump({"results": [found]}, file)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.rate)


if __name__ == "__main__":
    LightningCLI(Classifier, Points, save_config_kwargs={"overwrite": True})
