"""No secret is printed or written: URIs lose their users, passwords and tokens wherever a text may quote one.

A job needs the addresses of its stores with their passwords, and has them from the environment alone
(`MLFLOW_TRACKING_URI`, `OPTUNA_STORAGE`): no script, file or command line holds them. What is left are messages and
tracebacks, many of them of libraries that quote what they were given, or what they made of it. `redact` is
called wherever such a text leaves the program.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from ablative.study.core.errors import StoreError

ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI", "OPTUNA_STORAGE")
"""Variables that hold URIs, and in them perhaps secrets."""
PASSWORDS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")
"""Variables that are secrets."""
SHORTEST = 4
"""Characters of a secret that is looked for by itself: a shorter one would be found in every other word."""
MASK = "***"

T = TypeVar("T")

_NAMES = r"[\w.-]*(?:password|passwd|passfile)|(?:[\w.-]*[_-])?(?:token|secret|(?:api|access|secret)[_-]?key|signature)"
_VALUE = r"""(?:'[^']*'|"[^"]*"|[^&\s'",;)]+)"""
_PATTERNS = (
    # Twice: passwords with a raw slash in them, and those with a raw @.
    (re.compile(r"://[^\s/@'\"]*:[^\s@?'\"]*@"), f"://{MASK}@"),
    (re.compile(r"://[^\s/'\"]*@"), f"://{MASK}@"),
    (re.compile(rf"(?i)([?&](?:user(?:name)?|auth|credentials?|key|{_NAMES})=){_VALUE}"), rf"\1{MASK}"),
    (re.compile(rf"(?i)(?<![\w.])((?:user|{_NAMES})=){_VALUE}"), rf"\1{MASK}"),
    (re.compile(r"(?i)(authorization\W{1,4}(?:basic|bearer)\s+)[\w+/=.~-]+"), rf"\1{MASK}"),
)


def redact(text: str, *uris: str) -> str:
    """`text` without what looks like a secret, and without those of the environment's URIs (and of `uris`).

    >>> redact("postgresql://ann:secret@db:5432/mlflow?sslmode=require&password=x")
    'postgresql://***@db:5432/mlflow?sslmode=require&password=***'
    """
    for secret in _known(uris):
        text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def without_user(uri: str) -> tuple[str, str, str]:
    """A URI without its user and password, and these two, decoded; empty where there are none."""
    start, mark, rest = uri.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    name, _, password = user.partition(":")
    return f"{start}{mark}{rest[len(user) + len(at) :]}", unquote(name), unquote(password)


def check_address(variable: str, uri: str) -> None:
    """Raise StoreError for a password that ends the address early, before a library quotes the half of it.

    Between the scheme and the path, characters that mean something in a URI have to be escaped.
    """
    try:
        urlsplit(uri)
    except ValueError:
        raise StoreError(f"{variable} is no URI; escape special characters of a password, such as [ as %5B") from None
    rest = uri.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if authority and "@" not in authority and "@" in rest.partition("?")[0]:
        raise StoreError(
            f"{variable}: the user or password holds a character that ends them; write / as %2F, ? as %3F, # as %23"
        )
    if authority.count("@") > 1:
        raise StoreError(f"{variable}: the user or password holds an @; write it as %40")
    host = authority.rpartition("@")[2]
    port = "" if host.endswith("]") else host.rpartition(":")[2] if ":" in host else ""
    if port and not port.isdigit():
        raise StoreError(f"{variable}: what stands where the port should be is no number; write @ and : as %40 and %3A")


def holds_secret(text: str) -> bool:
    """Whether `text` (a line of shell, an option) spells a secret out; to name a variable that holds it is none."""
    spelt = re.sub(r"=[\"']?\$\S*", "= ", text)
    return redact(spelt) != spelt


def guard() -> None:
    """Have uncaught exceptions printed without secrets, from this call on."""
    sys.excepthook = _print_exception


def shielded(function: Callable[..., T], *arguments: Any) -> T:
    """Call `function`; what it raises is raised without secrets, for callers that write it down (Submitit does)."""
    import traceback

    try:
        return function(*arguments)
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        if redact(text) == text:
            raise
        failed = RuntimeError(redact(text))
    raise failed


def _print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    import traceback

    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _known(uris: Iterable[str]) -> list[str]:
    """Secrets of the environment and of `uris` in every form that they may be quoted in, longest first."""
    found = {os.environ.get(name, "") for name in PASSWORDS}
    for uri in (*uris, *(os.environ.get(name, "") for name in ADDRESSES)):
        found |= _secrets(uri)
    forms: set[str] = set()
    for secret in found:
        plain = unquote(secret)
        forms |= {secret, plain, unquote_plus(secret), quote(plain), quote(plain, safe="")}
        # As Python writes it between either kind of quotation marks.
        forms |= {repr(plain)[1:-1], repr(f'{plain}"')[1:-2]}
    return sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True)


def _secrets(uri: str) -> set[str]:
    """Passwords and tokens of a URI, whichever way it is cut where it is ambiguous."""
    rest = uri.partition("://")[2]
    found = {match.group(1) for cut in (r"[^:/@]*:(.*)@", r"[^:/@]*:([^@]*)@") if (match := re.match(cut, rest))}
    return found | set(re.findall(rf"(?i)[?&](?:{_NAMES})=([^&]*)", rest))
