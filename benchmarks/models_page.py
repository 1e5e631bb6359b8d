"""What the pages of gan_table.py and vae_table.py are made of: tables in Markdown, pictures."""

import io

from PIL import Image, ImageDraw, ImageFont

from minigen.train.samples import grid, save_bytes

MARGIN, HEAD = 14, 24  # pixels around a grid, and above it for its name


def table(head, rows):
    """A table of texts in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def steps(row):
    """How many steps a model was trained for, as its command says."""
    return row["command"].split("--steps ")[1].split()[0]


def minutes(row):
    """The cells of what training took: minutes on idle cores, CPU minutes."""
    idle = row.get("idle")
    return [f"{idle['minutes']:.1f}" if idle else "-", f"{row['cpu_minutes']:.1f}"]


def distance(interval):
    return "{value:.2f} ({low:.2f} to {high:.2f})".format_map(interval)


def shown(interval, digits=3):
    return f"{interval['value']:.{digits}f}" if interval else "-"


def alarms(models):
    """A line for each model of which the doctor has said something."""
    told = {name: row["alarms"] for name, row in models.items() if row["alarms"]}
    for name, findings in told.items():
        said = ", ".join(f"{each['name']} (step {each['step']})" for each in findings)
        yield f"Alarms of `{name}`: {said}."


def commands(models):
    """The commands that trained the models."""
    return "```\n" + "\n".join(row["command"] for row in models.values()) + "\n```"


def draw(images, columns, path):
    """A grid of images (n, C, H, W) in [0, 1] as a small PNG."""
    save_bytes(path, png(Image.fromarray(grid(images, columns))))


def overview(grids, across):
    """The bytes of a PNG of the grids that there are, {name: path}, with their names, `across` of
    them beside each other.
    """
    pictures = {
        name: Image.open(path).convert("L") for name, path in grids.items() if path.exists()
    }
    width = max(picture.width for picture in pictures.values()) + MARGIN
    height = max(picture.height for picture in pictures.values()) + MARGIN + HEAD
    down = -(-len(pictures) // across)
    sheet = Image.new("L", (across * width + MARGIN, down * height + MARGIN), 255)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for i, (name, picture) in enumerate(pictures.items()):
        x, y = MARGIN + i % across * width, MARGIN + i // across * height
        pen.text((x, y), name, fill=0, font=font)
        sheet.paste(picture, (x, y + HEAD))
    return png(sheet)


def png(picture):
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()
