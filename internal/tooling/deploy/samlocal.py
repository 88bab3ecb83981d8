"""Runs make local, and what else the proofs talk to, and stops all of it again."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FLOW = "6245f1e0c8d4b2a39e7f1c05"
# No setting of the machine reaches the tools: no account, no proxy for localhost, no telemetry.
ENV = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {
    "NO_PROXY": "*",
    "SAM_CLI_TELEMETRY": "0",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    # sam local asks AWS for the account's number, and makes one up when nobody answers.
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}


def documented_code(language, text=""):
    """Returns the documents' only block of code in a language that contains a text."""
    documents = [ROOT / "README.md", *(ROOT / "functions/start/docs").glob("*.md")]
    blocks = re.findall(rf"^```{language}\n(.*?)^```", "\n".join(p.read_text() for p in documents), re.M | re.S)
    (code,) = [block for block in blocks if text in block]
    return code


# Below the ports that the kernel gives to clients, so that none is taken before it is used.
PORTS = itertools.count(20000 + os.getpid() % 10000)


def free_port():
    for port in PORTS:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


class Process:
    """A program in a process group of its own, with its output in a file."""

    def __init__(self, log, *command, ready, seconds=120, cwd=ROOT, env=ENV):
        self.log = Path(log)
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self.wait_for(ready, seconds)
        except BaseException:
            self.stop()
            raise

    def output(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern, seconds=20):
        """Returns what the output has for pattern as soon as it is there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if match := re.search(pattern, self.output()):
                return match
            assert not ended, f"ended before it said {pattern!r}:\n{self.output()}"
            time.sleep(0.05)
        raise AssertionError(f"did not say {pattern!r} in {seconds} s:\n{self.output()}")

    def stop(self):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
                return


class Local(Process):
    """make local: sam local start-api with the built function in its container."""

    def __init__(self, log, *make_variables):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/omni/start"
        super().__init__(log, "make", "local", f"PORT={self.port}", *make_variables, ready=r"Running on http", seconds=300)

    def post(self, body, **headers):
        """Returns status, headers and the decoded body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        try:
            response = urllib.request.urlopen(urllib.request.Request(self.url, data, headers), timeout=60)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return response.status, response.headers, json.load(response)

    def request_lines(self, at_least=0):
        """The lines that the function has logged for its requests. SAM CLI may print one after it has responded."""
        for _ in range(200):
            lines = (json.loads(line) for line in self.output().splitlines() if line.startswith("{") and line.endswith("}"))
            requests = [line for line in lines if line.get("message") == "request"]
            if len(requests) >= at_least:
                return requests
            time.sleep(0.1)
        raise AssertionError(f"fewer than {at_least} request lines:\n{self.output()}")
