"""Handwritten digits with a linear classifier: functions that report, stop when asked, and resume bit for bit."""

import os
import pickle

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

images, labels = load_digits(return_X_y=True)
images = images / 16
seen, held_out = slice(0, 1200), slice(1200, None)


def train(config, context):
    path = os.path.join(context.out, "model.pkl")
    model, start = load(path) or (make(config, context.seed), 0)
    for epoch in range(start, config["epochs"]):
        model.partial_fit(images[seen], labels[seen], classes=range(10))
        # Killed between the two, it computes this epoch again; the other way round, the curve would lack it.
        context.log(epoch + 1, {"accuracy": 100 * model.score(images[seen], labels[seen])})
        save(path, (model, epoch + 1))
        context.progress(epoch + 1, config["epochs"])
        if context.should_stop():
            return


def test(config, context):
    model, _ = load(os.path.join(context.stage("train").out, "model.pkl"))
    return {"top1": 100 * model.score(images[held_out], labels[held_out])}


def make(config, seed):
    return SGDClassifier(loss="log_loss", alpha=config["alpha"], penalty=config["penalty"], random_state=seed)


def load(path):
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return pickle.load(file)


def save(path, state):
    with open(path + ".new", "wb") as file:
        pickle.dump(state, file)
    os.replace(path + ".new", path)
