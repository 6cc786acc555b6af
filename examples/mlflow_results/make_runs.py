"""Runs as somebody has them already: an MLflow store with two methods, two depths and two seeds."""

import mlflow

mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("half a year")
for method, depth, seed in [(method, depth, seed) for method in ("clip", "mae") for depth in (1, 2) for seed in (0, 1)]:
    with mlflow.start_run(run_name=f"{method}-{depth}-{seed}"):
        mlflow.log_params({"model": method, "layers": depth, "seed": seed})
        for step in (1, 2, 3):
            accuracy = 0.6 + 0.05 * depth + 0.04 * (method == "clip") + 0.01 * seed + 0.01 * step
            mlflow.log_metric("val/acc", accuracy, step)
