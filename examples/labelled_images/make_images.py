"""Labelled images as people have them: photos/SPLIT/CLASS/NUMBER.png, here squares and discs of random colours."""

from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

random = Random(0)
for split, count in (("train", 40), ("test", 20)):
    for shape in ("disc", "square"):
        folder = Path("photos", split, shape)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = Image.new("RGB", (32, 32), "white")
            draw, colour = ImageDraw.Draw(image), tuple(random.randrange(200) for _ in range(3))
            left, top, side = random.randrange(12), random.randrange(12), random.randrange(10, 20)
            (draw.ellipse if shape == "disc" else draw.rectangle)((left, top, left + side, top + side), fill=colour)
            image.save(folder / f"{number}.png")
