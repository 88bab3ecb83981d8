"""Runs the authorizer of IDENTITY.md as the document says: with Node.js, the app's sessions, and the function of make run."""

import http.server
import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
IDENTITY = (ROOT / "functions/start/docs/IDENTITY.md").read_text()
(AUTHORIZER,) = re.findall(r"^```javascript\n(.*?)^```", IDENTITY, re.M | re.S)
(COMMANDS,) = re.findall(r"^```sh\n(.*?)^```", IDENTITY, re.M | re.S)


class App(http.server.BaseHTTPRequestHandler):
    """The app that knows the sessions."""

    def do_GET(self):
        known = {"session=of-jane": (200, '{"id":"customer-7"}'), "session=without-id": (200, "{}"), "session=broken": (500, "")}
        status, body = known.get(self.headers["Cookie"], (401, ""))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def app():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/session"
    server.shutdown()
    server.server_close()


def authorize(app, tmp_path, cookies):
    """What the authorizer returns for an event of payload format 2.0 with these cookies."""
    (tmp_path / "authorizer.mjs").write_text(AUTHORIZER)
    event = {"version": "2.0", "type": "REQUEST", "routeKey": "POST /omni/start", "identitySource": cookies, "cookies": cookies}
    call = f'import("./authorizer.mjs").then(a => a.handler({json.dumps(event)})).then(r => console.log(JSON.stringify(r)))'
    return subprocess.run(["node", "-e", call], cwd=tmp_path, env=os.environ | {"SESSION_URL": app}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("cookies", "want"),
    [
        (["theme=dark", "session=of-jane"], {"isAuthorized": True, "context": {"sub": "customer-7"}}),
        (["session=of-nobody"], {"isAuthorized": False}),
        (["theme=dark"], {"isAuthorized": False}),
        (["session=without-id"], {"isAuthorized": True, "context": {}}),  # the function refuses it as customer-unusable
    ],
    ids=["session", "no session", "other cookie", "no customer"],
)
def test_the_authorizer_returns_the_customer_of_the_session(app, tmp_path, cookies, want):
    assert json.loads(authorize(app, tmp_path, cookies).stdout) == want


def test_the_authorizer_fails_if_the_app_fails(app, tmp_path):
    failed = authorize(app, tmp_path, ["session=broken"])
    assert failed.returncode != 0 and failed.stdout == "" and "the app responded with 500" in failed.stderr


@pytest.mark.parametrize(
    ("session", "more", "want"),
    [("of-jane", "", "token"), ("of-jane", '"externalCustomerId":"victim",', "/problems/customer-mismatch"), ("of-nobody", "", "/problems/customer-unusable")],
    ids=["own session", "names another", "no session"],
)
def test_the_documented_commands_start_a_session_for_the_customer_of_the_cookie(app, tmp_path, session, more, want):
    (tmp_path / "authorizer.mjs").write_text(AUTHORIZER)
    commands = COMMANDS
    for documented, here in [
        ("http://localhost:8080/session", app), ("http://localhost:3000", os.environ["OMNISTART_URL"]), ("session=<value>", f"session={session}"),
        ("-d '{", "-d '{" + more),
    ]:  # fmt: skip
        assert documented in commands
        commands = commands.replace(documented, here)
    answer = json.loads(subprocess.run(["sh", "-ec", commands], cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert answer.get("type", "token") == want
