"""The figure of study.yaml."""


def losses(figure, frame, color):
    """Validation loss over steps, a line for each width; `frame`: the query's rows, `color`: as in other figures."""
    axes = figure.gca()
    for width, rows in frame.groupby("width"):
        axes.plot(rows["step"], rows["loss"], color=color("width", width), label=f"width {width}")
    axes.set_xlabel("step")
    axes.set_ylabel("validation loss")
    axes.legend()
