"""Captioned images as people have them: captions.csv with the columns image and caption."""

from pathlib import Path

from PIL import Image

Path("images").mkdir(exist_ok=True)
rows = ["image,caption"]
for number in range(600):
    Image.new("RGB", (40, 40), (number % 256, number // 4, 7 * number % 256)).save(f"images/{number}.png")
    rows.append(f"images/{number}.png,a plain square number {number}")
Path("captions.csv").write_text("\n".join(rows))
