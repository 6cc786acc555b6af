"""Templates, style and scripts of the pages, which carry all of them inside."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from markupsafe import Markup

from ablative.reports.tables.html_templates import FOLDER, environment


def asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def render(template: str, scripts: tuple[str, ...] = (), **values: Any) -> str:
    """A template filled in; what comes from data is escaped. Its `head.html` lets the given scripts run, no others."""
    script = "".join(map(asset, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        environment()
        .get_template(template)
        .render(
            css=Markup(asset("page.css")),
            script=Markup(script),
            script_hash=f"sha256-{digest}" if script else "",
            **values,
        )
    )
