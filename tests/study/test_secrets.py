"""What counts as a secret in a text, and what does not."""

from __future__ import annotations

import sys

import pytest

from ablative.study.core.errors import StoreError
from ablative.study.core.secrets import (
    ADDRESSES,
    PASSWORDS,
    check_address,
    guard,
    holds_secret,
    redact,
    shielded,
    without_user,
)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ADDRESSES, *PASSWORDS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:s3cret@db:5432/m?sslmode=require", "postgresql://***@db:5432/m?sslmode=require"),
        ("http://ann:s3c/ret@host/x and http://t0ken@host", "http://***@host/x and http://***@host"),
        ("http://host/x?a=1&access_token=s3cret&b=2", "http://host/x?a=1&access_token=***&b=2"),
        ("http://host/x?metric_key=train/loss&step=3", "http://host/x?metric_key=train/loss&step=3"),
        ("dsn: host=db user=ann password='s3 cret' port=5", "dsn: host=db user=*** password=*** port=5"),
        ("headers={'Authorization': 'Basic czNjcmV0'}", "headers={'Authorization': 'Basic ***'}"),
        ("tokens=3 tokenizer.token=5 key=len", "tokens=3 tokenizer.token=5 key=len"),
        ("sqlite:////home/ann@lab/mlflow.db", "sqlite:////home/ann@lab/mlflow.db"),
        ("http://host:5000/p?to=a@b, ann@host", "http://host:5000/p?to=a@b, ann@host"),
    ],
)
def test_what_looks_like_a_secret(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_secrets_of_the_environment_are_known_in_every_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ann:s3c%27r%20et@db/m?sslpassword=0ther")
    monkeypatch.setenv("PGPASSWORD", "th1rd")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    assert redact("s3c'r et, s3c%27r%20et, 0ther, th1rd; ann") == "***, ***, ***, ***; ann"
    assert redact(repr("\"s3c'r et")) == "'\"***'"
    assert redact("abc") == "abc", "a secret as short is in every other word"
    assert redact("f0urth", "http://ann:f0urth@host") == "***"


def test_lines_of_shell_that_spell_a_secret_out() -> None:
    for line in ("export X=postgresql://a:b@h/x", "export WANDB_API_KEY=abc", "PGPASSWORD='a b' psql"):
        assert holds_secret(line), line
    for line in ("export A_TOKEN=$(cat file)", 'export B="$B_PASSWORD"', "module load cuda", "nice=5"):
        assert not holds_secret(line), line


def test_addresses_that_libraries_would_quote_the_half_of() -> None:
    for uri in ("postgresql://a:s3c/ret@db/x", "http://a:s3c#ret@db", "http://a:b@h:s3cret", "http://a:[s3cret@h"):
        with pytest.raises(StoreError, match="VARIABLE") as caught:
            check_address("VARIABLE", uri)
        assert "s3c" not in str(caught.value)
    for uri in ("http://h", "http://a:b%2F@h:5000/x?to=a@b", "http://a:b@[::1]:5", "http://[::1]", "sqlite:////a@b"):
        check_address("VARIABLE", uri)
    assert without_user("http://ann:p%40s@h:5/x") == ("http://h:5/x", "ann", "p@s")
    assert without_user("http://h:5/x@y") == ("http://h:5/x@y", "", "")


def fail(message: str) -> None:
    try:
        raise KeyError(message)
    except KeyError as error:
        raise ValueError("outer") from error


def test_exceptions_that_others_write_down(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="outer"):
        shielded(fail, "harmless")
    with pytest.raises(RuntimeError) as caught:
        shielded(fail, "http://ann:s3cret@host")
    assert "KeyError: 'http://***@host'" in str(caught.value) and str(caught.value).endswith("ValueError: outer\n")
    assert caught.value.__context__ is None, "Submitit would print it"
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    guard()
    try:
        fail("http://ann:s3cret@host")
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    printed = capsys.readouterr().err
    assert "http://***@host" in printed and "s3cret" not in printed and "ValueError: outer" in printed
