"""Pictures of one colour with their captions, as the CSV files that open_clip reads."""

import csv
import os
import random

from PIL import Image

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200), "grey": (90, 90, 90)}

for name, count in (("train", 64), ("val", 32)):
    os.makedirs(f"pictures/{name}", exist_ok=True)
    chance = random.Random(name)
    with open(f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filepath", "title"])
        for index in range(count):
            word = chance.choice(list(COLOURS))
            colour = tuple(max(0, part + chance.randrange(-40, 40)) for part in COLOURS[word])
            Image.new("RGB", (32, 32), colour).save(f"pictures/{name}/{index}.png")
            writer.writerow([f"pictures/{name}/{index}.png", f"a {word} picture, number {index}"])
