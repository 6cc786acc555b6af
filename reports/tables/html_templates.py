"""Jinja's environment, through which all HTML of a report goes: text from data is escaped."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.reports.tables.escape import bare, html
from ablative.study.core.files import user_cache
from ablative.study.core.packages import folder
from ablative.study.core.plurals import counted

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

FOLDER = folder("ablative.reports") / "templates"


@functools.cache
def environment() -> jinja2.Environment:
    """Jinja with our filters.

    `scripts` lowers `_{…}` and raises `^{…}`, `bare` leaves both out, and `counted` puts a noun after a number.
    """
    import jinja2

    made = jinja2.Environment(
        bytecode_cache=_kept_bytecode(),
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"scripts": html, "bare": bare, "counted": counted}
    return made


def _kept_bytecode() -> jinja2.BytecodeCache | None:
    """Compiled templates, which each user keeps between commands; what cannot be kept is compiled again."""
    import jinja2

    class Kept(jinja2.FileSystemBytecodeCache):
        def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
            try:
                super().load_bytecode(bucket)
            except Exception:  # a damaged file may raise anything
                bucket.reset()

        def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
            with contextlib.suppress(OSError):
                Path(self.directory).mkdir(parents=True, exist_ok=True)
                super().dump_bytecode(bucket)

    folder = user_cache("templates")
    return None if folder is None else Kept(str(folder))


def fill(template: str, **values: object) -> Markup:
    """A template of `reports/templates` filled in, as a part of a page."""
    from markupsafe import Markup

    return Markup(environment().get_template(template).render(**values))
