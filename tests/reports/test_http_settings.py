"""Reports from a server behind TLS, certificates and authentication: what MLflow's client can write, a report reads."""

from __future__ import annotations

import base64
import contextlib
import http.server
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import services
import stores
from authority import Authority

from ablative.reports.build import report
from ablative.reports.store.rest_store import RestStore
from ablative.study.core.errors import StoreError
from ablative.study.plan.plan import Plan

Accepts = Callable[[Any], bool]
"""Whether the server lets a request with these headers through."""


@dataclass(frozen=True)
class Site:
    """MLflow's server, and what a site puts before it."""

    upstream: str
    authority: Authority
    plan: Plan

    @contextlib.contextmanager
    def front(self, accepts: Accepts = lambda headers: True, client: bool = False) -> Iterator[str]:
        """The address of an HTTPS proxy; `client`: it asks for a certificate of the site's authority."""
        upstream = self.upstream

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not accepts(self.headers):
                    return self._answer(401, b"who are you?")
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
                request = urllib.request.Request(
                    upstream + self.path, body, {"Content-Type": "application/json"}, method=self.command
                )
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        self._answer(answer.status, answer.read())
                except urllib.error.HTTPError as error:
                    with error:
                        self._answer(error.code, error.read())

            do_POST = do_GET

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.authority.certificate("server"))
        if client:
            context.load_verify_locations(self.authority.bundle)
            context.verify_mode = ssl.CERT_REQUIRED
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refused handshakes are what is tested
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture(scope="module")
def site(partial: Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    server = services.MlflowServer(f"sqlite:///{partial.home.store}", folder)
    server.start()
    yield Site(server.uri, Authority(folder), partial)
    server.kill()


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH", "INSECURE_TLS", "SERVER_CERT_PATH", "CLIENT_CERT_PATH"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def check_both(site: Site, uri: str) -> None:
    """MLflow's client and a report's store get the same through the same settings."""
    with stores.mlflow_client(uri) as client:
        experiment = client.get_experiment_by_name("pooled")
        runs = {run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    found = stores.rows_of(RestStore(uri), "pooled")
    assert found is not None and {row["run_uuid"] for row in found["src_runs"]} == runs != set()


def refused(uri: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as error:
        stores.rows_of(RestStore(uri), "pooled")
    assert "s3cret" not in str(error.value)


def test_a_private_authority(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with site.front() as uri:
        refused(uri, "cannot reach the tracking server .*certificate verify failed")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(site.authority.bundle))
        check_both(site, uri)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        found = report(site.plan, tmp_path / "out", ["md"])
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        assert found.tables == report(site.plan, tmp_path / "own", ["md"]).tables
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        refused(uri, "INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH exclude each other")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "none.pem"))
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "0")
        refused(uri, "none.pem")


def test_a_server_whose_certificate_nothing_checks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with site.front() as uri:
        for text in ("True", "1"):
            monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", text)
            with pytest.warns(match="Unverified HTTPS request"):
                assert stores.rows_of(RestStore(uri), "another study") is None
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "yes")
        refused(uri, "MLFLOW_TRACKING_INSECURE_TLS is 'yes'; expected true, false, 1 or 0")


def test_a_client_certificate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(site.authority.bundle))
    with site.front(client=True) as uri:
        refused(uri, "cannot reach the tracking server")
        monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(site.authority.certificate("client")))
        check_both(site, uri)


@pytest.mark.parametrize("source", ["variables", "address", "file", "file and variable"])
def test_user_and_password(site: Site, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = "Basic " + base64.b64encode(b"ann:s3cret/x").decode()
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(site.authority.bundle))
    with site.front(lambda headers: headers["Authorization"] == wanted) as uri:
        refused(uri, "answered 401 to .*who are you")
        file = tmp_path / ".mlflow" / "credentials"
        file.parent.mkdir()
        if source == "variables":
            file.write_text("[mlflow]\nmlflow_tracking_username = eve\nmlflow_tracking_password = other\n")
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret/x")
            monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "no part of it")
        elif source == "address":
            uri = uri.replace("https://", "https://ann:s3cret%2Fx@")
        else:
            file.write_text("[mlflow]\nmlflow_tracking_username = ann\nmlflow_tracking_password = s3cret/x\n")
            if source == "file and variable":
                file.write_text("[mlflow]\nmlflow_tracking_username = eve\nmlflow_tracking_password = s3cret/x\n")
                monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        check_both(site, uri)
        if source == "file":
            file.write_text("mlflow_tracking_password = s3cret/x\n")
            refused(uri, "not a file of user and password")


def test_a_token_and_a_workspace(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(site.authority.bundle))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann, who has no password")
    monkeypatch.setenv("MLFLOW_WORKSPACE", "vision")
    wanted = {"Authorization": "Bearer s3cret", "X-MLFLOW-WORKSPACE": "vision"}
    with site.front(lambda headers: wanted.items() <= dict(headers).items()) as uri:
        found = stores.rows_of(RestStore(uri), "pooled")
        assert found is not None and len(found["src_runs"]) > 0


PLUGINS = """
class Signing:
    def get_name(self):
        return "signing"
    def get_auth(self):
        def sign(request):
            request.headers["X-Signed"] = request.method + " by the site"
            return request
        return sign

class Pair(Signing):
    def get_name(self):
        return "pair"
    def get_auth(self):
        return ("bob", "word")

class Broken(Signing):
    def get_name(self):
        return "broken"
    def get_auth(self):
        def sign(request):
            raise RuntimeError("token=s3cret has expired")
        return sign

class Helpless(Signing):
    def get_name(self):
        return "helpless"
    def get_auth(self):
        import a_package_that_is_missing
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plug-ins as a package installs them; entry points need not have the names of what they provide."""
    folder = tmp_path / "site-packages"
    info = folder / "site_auth-1.dist-info"
    info.mkdir(parents=True)
    (folder / "site_auth.py").write_text(PLUGINS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: site-auth\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[mlflow.request_auth_provider]\n"
        "signing = site_auth:Signing\nbasic = site_auth:Pair\nbroken = site_auth:Broken\n"
        "helpless = site_auth:Helpless\ngone = site_auth:Missing\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_plug_ins(site: Site, plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(site.authority.bundle))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret")

    def accepts(headers: Any) -> bool:
        pair = "Basic " + base64.b64encode(b"bob:word").decode()
        return str(headers["X-Signed"]).endswith(" by the site") or headers["Authorization"] == pair

    with site.front(accepts) as uri:
        refused(uri, "answered 401")
        monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "signing")
        found = stores.rows_of(RestStore(uri), "pooled")
        assert found is not None and len(found["src_runs"]) > 0
        monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "pair")
        assert stores.rows_of(RestStore(uri), "another study") is None
        monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "broken")
        refused(uri, "plug-in of MLFLOW_TRACKING_AUTH=broken failed: token=")
        monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "helpless")
        refused(uri, "plug-in of MLFLOW_TRACKING_AUTH=helpless failed: No module named 'a_package_that_is_missing'")
        monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "unknown")
        with pytest.warns(match="'gone' cannot be loaded|AUTH=unknown: no such plug-in is installed"):
            refused(uri, "answered 401")


def test_nothing_of_mlflow_is_imported(site: Site, plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; import duckdb; from ablative.reports.store.database_store import open_store;"
        "from ablative.reports.store.store_tables import StoreTables; tables = StoreTables(duckdb.connect());"
        "open_store(sys.argv[1]).read('pooled', tables);"
        "print(tables.connection.execute('select count(*) from src_runs').fetchone()[0]);"
        "sys.exit(' '.join({'mlflow', 'torch'} & set(sys.modules)) or 'site_auth' not in sys.modules)"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(site.authority.bundle))
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "signing")
    monkeypatch.setenv("PYTHONPATH", str(plugins))
    with site.front(lambda headers: "X-Signed" in headers) as uri:
        done = subprocess.run(
            [sys.executable, "-c", program, uri], check=False, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
