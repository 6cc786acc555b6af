"""MLflow's settings for its tracking server, as arguments of `requests`: the server that `sync` can write can be read.

MLflow's own client reads the same variables in `mlflow.utils.credentials` and `mlflow.utils.rest_utils`.
"""

from __future__ import annotations

import base64
import configparser
import importlib
import os
import warnings
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.study.core.errors import StoreError
from ablative.study.core.secrets import redact

if TYPE_CHECKING:
    import requests

AUTH_PLUGINS = "mlflow.request_auth_provider"
"""Entry point group of MLflow's plug-ins for authentication."""
KUBERNETES = "mlflow.tracking.request_auth.kubernetes_request_auth_provider"
SHIPPED = {
    "kubernetes": f"{KUBERNETES}:KubernetesRequestAuthProvider",
    "kubernetes-namespaced": f"{KUBERNETES}:KubernetesNamespacedRequestAuthProvider",
}
"""Plug-ins that MLflow has without an entry point."""


def request_settings(user: str, password: str) -> dict[str, Any]:
    """Keyword arguments of `requests.request`: headers, auth, verify, cert, allow_redirects.

    `user`, `password`: those of the server's URI, or empty; the environment and `~/.mlflow/credentials` are asked for
    what it lacks. Raises StoreError for settings that exclude each other and for a plug-in that fails.
    """
    plugin = os.environ.get("MLFLOW_TRACKING_AUTH", "")
    settings: dict[str, Any] = {
        "headers": _headers(user, password, basic=plugin not in SHIPPED),
        "verify": _verify(),
        "allow_redirects": os.environ.get("MLFLOW_ALLOW_HTTP_REDIRECTS", "true").lower() in ("true", "1"),
    }
    if certificate := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        settings["cert"] = certificate
    if _flag("MLFLOW_TRACKING_AWS_SIGV4"):
        settings["auth"] = _aws_signature()
    elif plugin:
        settings["auth"] = _plugin_auth(plugin)
    return settings


def _headers(user: str, password: str, basic: bool) -> dict[str, str]:
    """The workspace, and who asks: by user and password where both are known, else by a token."""
    file_user, file_password = _credentials_file()
    user = user or os.environ.get("MLFLOW_TRACKING_USERNAME") or file_user
    password = password or os.environ.get("MLFLOW_TRACKING_PASSWORD") or file_password
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    workspace = os.environ.get("MLFLOW_WORKSPACE", "").strip()
    headers = {"X-MLFLOW-WORKSPACE": workspace} if workspace else {}
    if user and password and basic:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return headers | {"Authorization": f"Basic {pair}"}
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})


def _credentials_file() -> tuple[str, str]:
    """User and password of `~/.mlflow/credentials`; empty where it has none."""
    file = configparser.ConfigParser()
    path = Path("~/.mlflow/credentials").expanduser()
    try:
        file.read(path, encoding="utf-8")
        if not file.has_section("mlflow"):
            return "", ""
        own = file["mlflow"]
        return own.get("mlflow_tracking_username", ""), own.get("mlflow_tracking_password", "")
    except (OSError, UnicodeDecodeError, configparser.Error):
        # The parser quotes the line that it does not understand, which may hold the password.
        raise StoreError(f"{path}: not a file of user and password as MLflow writes it") from None


def _verify() -> bool | str:
    """Whether the server's certificate is checked, or the bundle of authorities that it is checked against."""
    bundle = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    insecure = _flag("MLFLOW_TRACKING_INSECURE_TLS")
    if bundle is None:
        return not insecure
    if insecure:
        raise StoreError("MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH exclude each other")
    return bundle


def _flag(variable: str) -> bool:
    text = os.environ.get(variable, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise StoreError(f"{variable} is '{text}'; expected true, false, 1 or 0")
    return text in ("true", "1")


def _aws_signature() -> object:
    try:
        return importlib.import_module("requests_auth_aws_sigv4").AWSSigV4("execute-api")
    except ImportError as error:
        raise StoreError("MLFLOW_TRACKING_AWS_SIGV4 needs the package requests_auth_aws_sigv4") from error


def _plugin_auth(name: str) -> object:
    """What the plug-in of that name gives `requests` as `auth`; None and a warning, as in MLflow, where none has it.

    MLflow asks each plug-in for its name, which need not be its entry point's: the one so called is asked first, so
    that the others are rarely loaded.
    """
    plugins = [EntryPoint(name, SHIPPED[name], AUTH_PLUGINS)] if name in SHIPPED else []
    plugins += sorted(entry_points(group=AUTH_PLUGINS), key=lambda plugin: plugin.name != name)
    for plugin in plugins:
        try:
            provider = plugin.load()()
        except (AttributeError, ImportError) as error:
            warnings.warn(f"MLflow's auth plug-in '{plugin.name}' cannot be loaded: {error}", stacklevel=2)
            continue
        except Exception as error:  # a plug-in may fail in any way
            raise _failed(name, error) from error
        try:
            if provider.get_name() == name:
                return _reporting(name, provider.get_auth())
        except Exception as error:
            raise _failed(name, error) from error
    warnings.warn(f"MLFLOW_TRACKING_AUTH={name}: no such plug-in is installed, so none is used", stacklevel=2)
    return None


def _reporting(name: str, auth: object) -> object:
    """The plug-in's auth, whose failures while it signs a request become a StoreError that names the plug-in."""
    if not callable(auth):
        return auth  # a pair of user and password

    def sign(request: requests.PreparedRequest) -> object:
        try:
            return auth(request)
        except Exception as error:
            raise _failed(name, error) from error

    return sign


def _failed(name: str, error: Exception) -> StoreError:
    return StoreError(f"the auth plug-in of MLFLOW_TRACKING_AUTH={name} failed: {redact(str(error))}")
