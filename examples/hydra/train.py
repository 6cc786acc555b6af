"""A Hydra app as it is: fits one of two curves to points, and writes its metrics where Hydra has it run."""

import json
import math
import random
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    draw = random.Random(config.seed)
    points = [(x / 10, math.sin(x / 10) + config.noise * draw.gauss(0, 1)) for x in range(60)]
    degree, rate = config.model.degree, config.optimizer.rate
    weights = [0.0] * (degree + 1)
    out = Path(HydraConfig.get().runtime.output_dir)
    with (out / "metrics.jsonl").open("w") as file:
        for epoch in range(1, config.epochs + 1):
            for x, y in points:
                powers = [(x / 6) ** power for power in range(degree + 1)]
                error = sum(w * p for w, p in zip(weights, powers, strict=True)) - y
                weights = [w - rate * error * p for w, p in zip(weights, powers, strict=True)]
            errors = [
                (sum(w * (x / 6) ** power for power, w in enumerate(weights)) - math.sin(x)) ** 2 for x, _ in points
            ]
            file.write(json.dumps({"epoch": epoch, "fit": {"error": sum(errors) / len(errors)}}) + "\n")


if __name__ == "__main__":
    main()
