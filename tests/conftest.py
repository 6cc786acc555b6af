"""Lies here so that pytest puts this folder on the import path: several tests share its helpers."""
