"""Lies here so that pytest puts this folder on the import path: several tests share its helpers."""

import os
import signal

# A shell starts background jobs with Ctrl-C ignored, and every process below would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Several tests run side by side, each with processes of its own: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
