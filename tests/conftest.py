"""Lies here so that pytest puts this folder on the import path: several tests share its helpers."""

import signal

# A shell starts background jobs with Ctrl-C ignored, and every process below would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
