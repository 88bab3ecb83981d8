"""The clients of the documents, in the languages that run here, against make run and against servers that fail."""

import http.server
import json
import subprocess
import sys
import threading

import pytest
from samlocal import ENV, FLOW, Process, documented_code, free_port

# Each program prints the token, or what the error has. The wait of 30 seconds is shortened.
JS = """
startSession(process.argv[2], "TOKEN", process.argv[3]).then(
  (token) => console.log(JSON.stringify({ token })),
  ({ code, requestId = null, sessionStarted, retryAfter = null }) =>
    console.log(JSON.stringify({ code, requestId, sessionStarted, retryAfter })),
);
"""
PYTHON = """
import sys
try:
    print(json.dumps({"token": start_session(sys.argv[1], "eu-west-1", sys.argv[2], "customer-42")}))
except StartError as e:
    print(json.dumps({"code": e.code, "requestId": e.request_id, "sessionStarted": e.session_started, "retryAfter": e.retry_after}))
"""
JAVA = """
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.Scanner;
import org.json.JSONException;
import org.json.JSONObject;

class Client {
    public static void main(String[] args) throws JSONException {
        JSONObject result = new JSONObject();
        try {
            result.put("token", startSession(args[0], "TOKEN", args[1]));
        } catch (StartException e) {
            result.put("code", e.code).put("sessionStarted", e.sessionStarted);
            result.put("requestId", e.requestId == null ? JSONObject.NULL : e.requestId);
            result.put("retryAfter", e.retryAfter == null ? JSONObject.NULL : e.retryAfter);
        }
        System.out.println(result);
    }
%s
}
"""
TOKEN = "e30.eyJzdWIiOiJjdXN0b21lci03In0.x"  # of customer-7; make run does not check the signature
ANDROID_JSON = "/usr/share/java/json-android.jar"  # Android's own org.json, from Debian


@pytest.fixture(scope="module", params=["js", "python", "java"])
def client(request, tmp_path_factory):
    """A function that runs the client of one language with a URL and a flow, and returns what it prints."""
    folder = tmp_path_factory.mktemp(request.param)
    env = ENV | {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}

    def shortened(code, seconds):
        assert seconds in code
        return code.replace(seconds, seconds.replace("30", "5"))

    match request.param:
        case "js":
            (folder / "client.mjs").write_text(shortened(documented_code("js", "startSession"), "30_000") + JS.replace("TOKEN", TOKEN))
            command = ["node", folder / "client.mjs"]
        case "python":
            (folder / "client.py").write_text(shortened(documented_code("python", "start_session"), "timeout=30") + PYTHON)
            command = [sys.executable, folder / "client.py"]
        case "java":
            (folder / "Client.java").write_text(JAVA.replace("TOKEN", TOKEN) % shortened(documented_code("java", "startSession"), "30_000"))
            subprocess.run(["javac", "-cp", ANDROID_JSON, "-d", folder, folder / "Client.java"], check=True)
            command = ["java", "-cp", f"{ANDROID_JSON}:{folder}", "Client"]

    def run(url, flow=FLOW):
        ran = subprocess.run([*command, url, flow], capture_output=True, text=True, env=env, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return run


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """The URL of make run."""
    port = free_port()
    running = Process(tmp_path_factory.mktemp("run") / "log", "make", "run", f"PORT={port}", ready=r"\n  curl -s ", seconds=300)
    yield f"http://localhost:{port}/omni/start"
    running.stop()


class Broken(http.server.BaseHTTPRequestHandler):
    """Fails as the path says, and counts the requests."""

    def do_POST(self):
        self.server.requests += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/silent":
            self.server.closing.wait(60)
        elif self.path == "/closes":
            self.close_connection = True
        elif self.path == "/cut-off":
            self.respond(200, b'{"token":"eyJ', 100)
        elif self.path == "/html":
            self.respond(502, b"<title>Bad gateway</title>")
        else:
            self.respond(int(self.path[1:]), b'{"message":"from API Gateway"}')

    def respond(self, status, body, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.send_header("Apigw-Requestid", "api-1")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def broken():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    server.requests, server.closing = 0, threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


def test_a_client_gets_a_token(client, endpoint):
    result = client(endpoint)
    assert list(result) == ["token"] and result["token"].startswith("eyJ")


@pytest.mark.parametrize(
    ("flow", "code", "started", "retry_after"),
    [("f" * 24, "configuration-not-allowed", "no", None), ("0429", "incode-throttled", "no", "7"), ("dead", "outcome-unknown", "perhaps", None)],
    ids=["refused", "throttled", "unknown"],
)
def test_a_client_hands_on_what_a_problem_says(client, endpoint, flow, code, started, retry_after):
    result = client(endpoint, flow.rjust(24, "0"))
    assert len(result.pop("requestId")) == 36
    assert result == {"code": code, "sessionStarted": started, "retryAfter": retry_after}


@pytest.mark.parametrize(("status", "started"), [(401, "no"), (429, "no"), (500, "perhaps"), (503, "perhaps")])
def test_a_client_knows_what_a_response_of_api_gateway_means(client, broken, status, started):
    result = client(f"http://127.0.0.1:{broken.server_port}/{status}")
    assert result == {"code": str(status), "requestId": "api-1", "sessionStarted": started, "retryAfter": None}


@pytest.mark.parametrize("failure", ["silent", "closes", "cut-off", "html"])
def test_without_a_response_a_session_may_exist_and_the_client_sends_no_second_request(client, broken, failure):
    result = client(f"http://127.0.0.1:{broken.server_port}/{failure}")
    assert result == {"code": "no-response", "requestId": None, "sessionStarted": "perhaps", "retryAfter": None}
    assert broken.requests == 1


class Incode(http.server.BaseHTTPRequestHandler):
    """Responds to GET /0/omni/onboarding-url as Incode's page "Generate Onboarding URL" says."""

    def do_GET(self):
        known = self.headers["X-Incode-Hardware-Id"] == "eyJ" and self.headers["api-version"] == "1.0"
        ok = known and self.path == "/0/omni/onboarding-url" and "x-api-key" not in self.headers
        self.send_response(200 if ok else 403)
        self.end_headers()
        self.wfile.write(b'{"url":"https://onboarding.example/1"}' if ok else b"{}")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("token", "want"), [("eyJ", "https://onboarding.example/1"), ("other", "Incode responded with 403")])
def test_the_hosted_page_is_that_of_the_token(tmp_path, token, want):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Incode)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    call = 'hostedPage(process.argv[2], process.argv[3]).catch((e) => e.message).then(console.log);'
    (tmp_path / "page.mjs").write_text(documented_code("js", "hostedPage") + call)
    url = f"http://127.0.0.1:{server.server_port}"
    ran = subprocess.run(["node", tmp_path / "page.mjs", url, token], capture_output=True, text=True, env=ENV, timeout=60)
    server.shutdown()
    server.server_close()
    assert ran.stdout.strip() == want, ran.stderr
