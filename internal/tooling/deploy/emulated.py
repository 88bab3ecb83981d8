"""An AWS account that ministack emulates, and a copy of the project to deploy to it."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import boto3
from derive import derive
from samcli.yamlhelper import yaml_dump
from samlocal import ENV, ROOT, Process, free_port

ARCH = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
TOOLS = Path(sys.executable).parent


class Account:
    """An empty account. The emulator listens on loopback alone, and runs the function as a process."""

    def __init__(self, tmp):
        port = free_port()
        endpoint = f"http://127.0.0.1:{port}"
        self.tmp = tmp
        self.env = ENV | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "SAM_CLI_POLL_DELAY": "0.2",  # seconds
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
        }
        settings = {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",  # no second port
            "TMPDIR": str(tmp),
            # The function inherits these two. The first leads its SDK to the emulator. The second Lambda sets for LoggingConfig's
            # JSON; the emulator does not.
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
        }
        self.emulator = Process(tmp / "ministack", TOOLS / "ministack", env=settings, ready="Running on")

    def stop(self):
        self.emulator.stop()

    def client(self, service):
        return boto3.client(
            service, endpoint_url=self.env["AWS_ENDPOINT_URL"], region_name=self.env["AWS_DEFAULT_REGION"],
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def run(self, *command, cwd=ROOT, **options):
        """Returns what the command prints. It has to succeed."""
        done = subprocess.run(command, cwd=cwd, env=self.env, capture_output=True, text=True, **options)
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
        return done.stdout

    def inventory(self):
        """What the account holds, of all kinds that a deployment makes, as (kind, name)."""
        kinds = {
            "stack": ("cloudformation", "list_stacks", "StackSummaries[?StackStatus!='DELETE_COMPLETE'].StackName"),
            "function": ("lambda", "list_functions", "Functions[].FunctionName"),
            "role": ("iam", "list_roles", "Roles[].RoleName"),
            "log group": ("logs", "describe_log_groups", "logGroups[].logGroupName"),
            "secret": ("secretsmanager", "list_secrets", "SecretList[].Name"),
            "alarm": ("cloudwatch", "describe_alarms", "MetricAlarms[].AlarmName"),
            "dashboard": ("cloudwatch", "list_dashboards", "DashboardEntries[].DashboardName"),
            "API": ("apigatewayv2", "get_apis", "Items[].ApiId"),
            "domain": ("apigatewayv2", "get_domain_names", "Items[].DomainName"),
            "bucket": ("s3", "list_buckets", "Buckets[].Name"),
        }
        found = set()
        for kind, (service, operation, names) in kinds.items():
            pages = self.client(service).get_paginator(operation).paginate()
            found |= {(kind, name) for name in pages.search(names) if name}
        return found


class Project:
    """A copy of the project with the template that is derived for the emulator."""

    def __init__(self, folder, account):
        self.folder, self.account = folder, account
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "node_modules", "__pycache__"))

    def fill_in(self, section, **parameters):
        """Edits the form in samconfig.toml as one does by hand. None puts a # before the line."""
        file = self.folder / "samconfig.toml"
        before, start, rest = file.read_text().partition(f"[{section}.deploy.parameters]\n")
        form, end, after = rest.partition("\n]\n")
        for name, value in parameters.items():
            line = f'  # "{name}=",' if value is None else f'  "{name}={value}",'
            form, found = re.subn(rf'^ *(# )?"{name}=.*",$', lambda _: line, form, flags=re.M)
            if not found:
                form += "\n" + line
        file.write_text(before + start + form + end + after)

    def parameters(self, section="default"):
        """What the form says."""
        config = tomllib.loads((self.folder / "samconfig.toml").read_text())
        return dict(line.split("=", 1) for line in config[section]["deploy"]["parameters"]["parameter_overrides"])

    def make(self, target, section="default", **options):
        """Runs a target of the Makefile for a section, with the template derived for its parameters."""
        (self.folder / "template.yaml").write_text(yaml_dump(derive(self.parameters(section))))
        return self.account.run("make", "--no-print-directory", target, f"ENV={section}", cwd=self.folder, **options)
