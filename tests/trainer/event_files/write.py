"""Writes the event files of this folder: torch 2.13's SummaryWriter and TensorBoard 2.21's, each into a folder."""

import sys
from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch.utils.tensorboard import SummaryWriter

root = Path(sys.argv[1])
with SummaryWriter(str(root / "torch")) as writer:
    writer.add_text("note", "not a scalar", 0)
    for step in range(0, 30, 10):
        writer.add_scalar("Loss/train", 2.0 - step / 20, step)
        writer.add_scalar("top1 (%)", 50 + step, step)
        if step == 0:
            writer.add_histogram("weights", np.arange(8.0), step)
    writer.add_image("picture", np.random.default_rng(0).random((3, 30, 30)), 20)
    writer.add_scalar("no_step", 1.0)
    writer.add_scalar("no_step", 3.0)
    writer.add_scalar("Loss/train", float("nan"), 30)

# As tf.summary.scalar: a tensor, of one of several types, and the plugin's name.
types = {"half": (19, np.float16), "float": (1, np.float32), "double": (2, np.float64), "int": (9, np.int64)}
writer = EventFileWriter(str(root / "tensors"))
for step in (1, 2**40):
    for name, (kind, dtype) in types.items():
        metadata = summary_pb2.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
        content = tensor_pb2.TensorProto(dtype=kind, tensor_content=np.array(-step % 7, dtype).tobytes())
        own = {"float": {"float_val": [-1.5]}, "double": {"double_val": [-1.5]}, "int": {"int64_val": [-2]}}
        listed = tensor_pb2.TensorProto(dtype=kind, **own.get(name, {}))
        vector = tensor_pb2.TensorProto(dtype=1, float_val=[1.0, 2.0])
        values = [
            summary_pb2.Summary.Value(tag=f"{name}/{form}", tensor=tensor, metadata=metadata)
            for form, tensor in (("content", content), ("listed", listed), ("vector", vector))
        ]
        writer.add_event(event_pb2.Event(step=step, wall_time=1.0, summary=summary_pb2.Summary(value=values)))
writer.close()
