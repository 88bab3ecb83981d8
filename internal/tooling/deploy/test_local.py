"""The built function in its container, called through sam local start-api as make local sets it up."""

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from samlocal import ENV, FLOW, ROOT, Local, free_port, documented_code
from stack import Stack

LISTED, OTHER = free_port(), free_port()
KEY = "fa4efa4efa4efa4efa4efa4efa4efa4efa4efa4e"  # of Incode's stand-in


def containers():
    return set(subprocess.run(["docker", "ps", "-q"], capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    before = containers()
    running = Local(tmp_path_factory.mktemp("local") / "log", f"CORS=http://localhost:{LISTED}")
    yield running
    running.stop()
    assert containers() <= before, "a container stays behind"


def test_the_curl_of_the_readme_returns_a_token(local):
    readme = (ROOT / "README.md").read_text()
    command = re.search(r"^curl(?:[^\n]*\\\n)*[^\n]*localhost:3000/omni/start(?:[^\n]*\\\n)*[^\n]*", readme, re.M).group()
    command = command.replace("localhost:3000", f"localhost:{local.port}")
    out = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=ENV, check=True).stdout
    assert re.search(r'\{"token": ?"eyJ[\w.-]+"\}', out), out


@pytest.mark.parametrize(
    ("status", "code", "body", "headers"),
    [
        (400, "invalid-json", b'{"configurationId":', {}),
        (422, "validation-failed", {"configurationId": FLOW, "interviewId": "x"}, {}),
        (403, "configuration-not-allowed", {"configurationId": "f" * 24}, {}),
        (415, "unsupported-media-type", {"configurationId": FLOW}, {"Content_Type": "text/plain"}),
        (502, "incode-unauthorized", {"configurationId": "000000000000000000000403"}, {}),
        (503, "incode-throttled", {"configurationId": "000000000000000000000429"}, {}),
        (502, "incode-failed", {"configurationId": "000000000000000000000500"}, {}),
        (502, "outcome-unknown", {"configurationId": "00000000000000000000dead"}, {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_refusal_is_a_documented_problem(local, status, code, body, headers):
    got, got_headers, problem = local.post(body, **headers)
    assert (got, problem["status"], problem["type"].rsplit("/", 1)[-1]) == (status, status, code)
    assert got_headers["Content-Type"] == "application/problem+json"
    assert got_headers["Cache-Control"] == "no-store"
    assert problem["title"] and problem["detail"] and problem["requestId"]
    assert ("errors" in problem) == (status == 422)


def test_alarms_and_dashboard_name_what_the_function_emits(local):
    local.post({"configurationId": FLOW})
    for flow in ("000000000000000000000403", "00000000000000000000dead"):
        local.post({"configurationId": flow})
    emitted, codes = set(), set()
    for line in local.request_lines(at_least=3):
        for directive in line["_aws"]["CloudWatchMetrics"]:
            for dimensions in directive["Dimensions"]:
                for metric in directive["Metrics"]:
                    assert isinstance(line[metric["Name"]], (int, float)), line
                    assert all(isinstance(line[d], str) for d in dimensions), line
                    emitted.add((directive["Namespace"], metric["Name"], frozenset(dimensions)))
                    codes.update(line[d] for d in dimensions if d == "Code")
    assert emitted, "no line carries metrics"

    stack = Stack(AllowedConfigurationIds="*")
    watched = {
        (alarm["Namespace"], alarm["MetricName"], frozenset(d["Name"] for d in alarm["Dimensions"]))
        for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()
        if alarm.get("Namespace") == "Omnistart"
    }
    watched_codes = {
        d["Value"] for alarm in stack.of_type("AWS::CloudWatch::Alarm").values() for d in alarm.get("Dimensions", []) if d["Name"] == "Code"
    }
    shown = set()
    for widget in json.loads(stack.one("AWS::CloudWatch::Dashboard")["DashboardBody"])["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], dict):
                schema, name = re.fullmatch(r"SEARCH\('\{([\w,]+)\} FunctionName=\"<StartFunction>\" MetricName=\"(\w+)\"', 'Sum', 300\)", metric[0]["expression"]).groups()
                namespace, *dimensions = schema.split(",")
                shown.add((namespace, name, frozenset(dimensions)))
            elif metric[0] == "Omnistart":
                plain = [m for m in metric if isinstance(m, str)]
                shown.add((metric[0], metric[1], frozenset(plain[2::2])))
    assert len(watched) == 1 and len(shown) >= 7
    assert watched <= emitted, f"alarms watch what nobody emits: {watched - emitted}"
    assert shown <= emitted, f"the dashboard shows what nobody emits: {shown - emitted}"
    assert {name for _, name, _ in emitted} == {name for _, name, _ in shown}, "emitted, but shown nowhere"
    codes.add("internal")  # which no call through API Gateway provokes; test_invoke.py does
    assert watched_codes <= codes, f"alarms wait for codes that do not come: {watched_codes - codes}"


def test_no_line_holds_the_key_or_a_token(local):
    before = len(local.request_lines())
    _, _, answer = local.post({"configurationId": FLOW})
    local.request_lines(at_least=before + 1)
    assert KEY not in local.output() and answer["token"] not in local.output()


# --remote-debugging-port keeps the browser open after the page has loaded.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-port=0"
).split()
WEB_SDK = Path(sys.prefix) / "web-sdk"  # Incode's own, where install.sh puts it
DEMO = "https://demo-api.incodesmile.com/0"
PAGE = """<!doctype html><title>client</title>
<script src="react.js"></script><script src="react-dom.js"></script><script src="web-sdk.js"></script>
<script>
%s
startSession("%s", "an.access.token", "%s")
  .then(async token => {
    %s
    return {status};
  })
  .catch(error => ({code: error.code, cause: String(error.cause)}))
  .then(result => fetch("/result", {method: "POST", body: JSON.stringify(result)}));
</script>"""


@pytest.mark.parametrize(("port", "listed"), [(LISTED, True), (OTHER, False)], ids=["listed origin", "other origin"])
def test_a_page_may_call_from_a_listed_origin_alone(local, tmp_path, port, listed):
    """The page hands what it gets to Incode's Web SDK, whose Incode is the page's own server."""
    result, arrived, calls_of_the_sdk = {}, threading.Event(), []
    status = {"action": "none", "redirectionUrl": ""}

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/":
                sdk = documented_code("js", "OnBoarding").replace(DEMO, f"http://localhost:{port}/incode")
                self.answer("text/html", PAGE % (documented_code("js", "startSession"), local.url, FLOW, sdk))
            elif self.path.startswith("/incode/"):
                calls_of_the_sdk.append((self.path, self.headers))
                self.answer("application/json", json.dumps(status))
            elif (file := WEB_SDK / self.path[1:]).is_file():
                self.answer("text/javascript; charset=utf-8", file.read_text())
            else:
                self.send_error(404)

        def do_POST(self):
            result.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer("text/plain", "")
            arrived.set()

        def answer(self, kind, text):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    before = local.output().count("OPTIONS /omni/start")
    posts = len(local.request_lines())
    site = http.server.ThreadingHTTPServer(("127.0.0.1", port), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    # In a session of its own, because Debian's program is a script that the browser outlives.
    browser = subprocess.Popen(
        ["chromium-headless-shell", *FLAGS, f"--user-data-dir={tmp_path}", f"http://localhost:{port}/"],
        env=ENV, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert arrived.wait(60), "the page did not report"
    finally:
        os.killpg(browser.pid, signal.SIGTERM)
        browser.wait(30)
        site.shutdown()
        site.server_close()
    assert local.output().count("OPTIONS /omni/start") == before + 1, "no preflight"
    if listed:
        assert result == {"status": status}
        ((path, headers),) = calls_of_the_sdk
        assert path == "/incode/omni/finish-status"
        assert re.fullmatch(r"eyJ[\w.-]+", headers["X-Incode-Hardware-Id"])
        assert "x-api-key" not in headers
        assert len(local.request_lines(posts + 1)) == posts + 1
    else:
        assert result == {"code": "no-response", "cause": "TypeError: Failed to fetch"}
        local.post({"configurationId": FLOW})  # whose line comes after that of an earlier POST
        assert len(local.request_lines(posts + 1)) == posts + 1, "the POST left in spite of the preflight"
