"""The targets of the Makefile that need no container: what is built for which processor, and the calls to AWS."""

import base64
import hashlib
import http.server
import io
import json
import re
import shutil
import struct
import subprocess
import threading
import zipfile

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from samcli.cli.types import CfnParameterOverridesType
from samcli.lib.config.samconfig import SamConfig
from samcli.yamlhelper import yaml_parse
from samlocal import ENV, FLOW, ROOT, Process, free_port, documented_code
from stack import SOURCE, Stack

HERE = ROOT / "internal/tooling/deploy"
SAMCONFIG = (ROOT / "samconfig.toml").read_text()
BUCKET = "packages.example"
MACHINES = {"x86_64": 62, "arm64": 183}  # e_machine of ELF
BOOTSTRAP = ROOT / ".aws-sam/build/StartFunction/bootstrap"


def make(*arguments, **options):
    return subprocess.run(["make", "--no-print-directory", *arguments], **({"cwd": ROOT, "env": ENV, "capture_output": True, "text": True} | options))


@pytest.mark.parametrize("arch", [None, *MACHINES])
def test_the_binary_is_for_the_processor_of_the_template(arch):
    built = make("build", *([f"ARCH={arch}"] if arch else []))
    assert built.returncode == 0, built.stderr
    want = arch or SOURCE["Parameters"]["Architecture"]["Default"]
    header = BOOTSTRAP.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", header, 18) == (MACHINES[want],)
    assert [p.name for p in BOOTSTRAP.parent.iterdir()] == ["bootstrap"]


@pytest.fixture(scope="module")
def filled_in(tmp_path_factory):
    """A copy of the project whose samconfig.toml is filled in, with a bucket of its own: moto cannot make SAM CLI's."""
    copy = tmp_path_factory.mktemp("copy") / "omnistart"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".build", ".aws-sam", "node_modules"))
    text = SAMCONFIG.replace('"AllowedConfigurationIds="', f'"AllowedConfigurationIds={FLOW}"')
    (copy / "samconfig.toml").write_text(text.replace("resolve_s3 = true", f's3_bucket = "{BUCKET}"'))
    return copy


def test_a_binary_for_another_processor_is_not_deployed(filled_in):
    refused = make("deploy", "ENV=staging", "ARCH=x86_64", cwd=filled_in)
    assert refused.returncode != 0
    assert "samconfig.toml deploys arm64, the binary is for x86_64" in refused.stderr


def test_what_is_filled_in_is_deployed(filled_in, tmp_path):
    (tmp_path / "sam").write_text('#!/bin/sh\nif [ "$1" = deploy ]; then echo "deployed with $*"; else exec ' + shutil.which("sam") + ' "$@"; fi\n')
    (tmp_path / "sam").chmod(0o755)
    deployed = make("deploy", "ENV=staging", cwd=filled_in, env=ENV | {"PATH": f"{tmp_path}:{ENV['PATH']}"})
    assert deployed.returncode == 0 and "deployed with deploy --config-env staging" in deployed.stdout, deployed.stderr


def sections(text):
    return re.findall(r"^\[(\w+)\.deploy\.parameters\]", text, re.M)


@pytest.mark.parametrize("env", sections(SAMCONFIG))
def test_make_deploy_asks_for_the_flows_first(env):
    refused = make("deploy", f"ENV={env}")
    (line,) = [line for line in refused.stderr.splitlines() if not line.startswith("make: ***")]
    where = SAMCONFIG[: SAMCONFIG.index('"AllowedConfigurationIds="', SAMCONFIG.index(f"[{env}.deploy."))].count("\n") + 1
    assert refused.returncode != 0
    assert line == f"samconfig.toml:{where}: AllowedConfigurationIds is empty. Enter the IDs of your flows."


def parameters_by_sam(path, env):
    """The parameters of the template, as SAM CLI reads them from a section."""
    settings = SamConfig(path.parent, path.name).get_all(["deploy"], "parameters", env)
    return CfnParameterOverridesType().convert(settings["parameter_overrides"], None, None)


@pytest.mark.parametrize("env", sections(SAMCONFIG))
def test_every_line_of_the_form_is_accepted_once_it_is_filled_in(env, tmp_path):
    path = tmp_path / "samconfig.toml"
    text = SAMCONFIG.replace('"AllowedConfigurationIds="', f'"AllowedConfigurationIds={FLOW}"')
    path.write_text(re.sub(r'^  # ("\w+=)', r"  \1", text, flags=re.M))
    parameters = parameters_by_sam(path, env)
    assert {"AllowedConfigurationIds", "JwtIssuer", "JwtAudience", "CorsOrigins"} <= set(parameters)
    Stack(**parameters)
    assert parameters_by_make(path, env) == (0, [f"{k}={v}" for k, v in parameters.items()])
    assert parameters_by_make(path, env, "check=1", ROOT / "template.yaml") == (0, [])


@pytest.mark.parametrize("env", sections(SAMCONFIG))
def test_the_package_of_a_section_keeps_its_key(env):
    # SAM makes a new version when the package's key changes, and Lambda refuses a version of the same code.
    settings = SamConfig(ROOT).get_all(["deploy"], "parameters", env)
    stack = SamConfig(ROOT).get_all(["global"], "parameters", env)["stack_name"]
    assert settings["s3_prefix"] == stack and settings["resolve_s3"] is True


def parameters_by_make(path, env, *arguments):
    result = subprocess.run(["awk", "-v", f"env={env}", "-f", HERE / "overrides.awk", *arguments, path.name], cwd=path.parent, capture_output=True, text=True)
    return result.returncode, (result.stdout + result.stderr).splitlines()


ORIGINS = "https://a.example.com,https://b.example.com"
# As SAM CLI writes its answers, empty ones among them.
GUIDED = f'parameter_overrides = "AllowedConfigurationIds=\\"{FLOW}\\" JwtIssuer=\\"\\" CorsOrigins=\\"{ORIGINS}\\" Architecture=\\"x86_64\\""'


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (GUIDED, [f"AllowedConfigurationIds={FLOW}", "JwtIssuer=", f"CorsOrigins={ORIGINS}", "Architecture=x86_64"]),
        (f'parameter_overrides = "AllowedConfigurationIds={FLOW} Architecture=x86_64"', [f"AllowedConfigurationIds={FLOW}", "Architecture=x86_64"]),
        (f'parameter_overrides = ["AllowedConfigurationIds={FLOW}", "Architecture=x86_64"] # "A=b"', [f"AllowedConfigurationIds={FLOW}", "Architecture=x86_64"]),
        (f"parameter_overrides = [\n  'AllowedConfigurationIds={FLOW}', # ], \"A=b\"\n  # \"JwtIssuer=x\",\n\n  \"Architecture=x86_64\"\n]\nother = [\"C=d\"]", [f"AllowedConfigurationIds={FLOW}", "Architecture=x86_64"]),
        ('parameter_overrides = ["AllowedConfigurationIds=*"]', ["AllowedConfigurationIds=*"]),
    ],
    ids=["as --guided writes it", "string", "list on one line", "list with comments", "every flow"],
)
def test_make_reads_the_parameters_that_sam_reads(text, read, tmp_path):
    path = tmp_path / "samconfig.toml"
    path.write_text(f'version = 0.1\n[other.deploy.parameters]\nparameter_overrides = ["X=y"]\n[default.deploy.parameters]\n{text}\n[prod.deploy.parameters]\nparameter_overrides = ["Y=z"]\n')
    assert parameters_by_make(path, "default") == (0, read)
    assert parameters_by_make(path, "default", "check=1", ROOT / "template.yaml") == (0, [])
    assert [f"{k}={v}" for k, v in parameters_by_sam(path, "default").items()] == read


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ('parameter_overrides = [\n  "AllowedConfigurationIds=",\n]', "samconfig.toml:3: AllowedConfigurationIds is empty. Enter the IDs of your flows."),
        ('parameter_overrides = "AllowedConfigurationIds=\\"\\" JwtIssuer=\\"\\""', "samconfig.toml:2: AllowedConfigurationIds is empty. Enter the IDs of your flows."),
        ('parameter_overrides = [\n  "AllowedConfigurationIds=*",\n  "JwtIssuer=",\n]', "samconfig.toml:4: JwtIssuer is empty. Enter a value, or put a # before the line."),
        ('parameter_overrides = [\n  "AllowedConfigurationIds=*",\n  "CorsOrigins=https://a.example.com, https://b.example.com",\n]', "samconfig.toml:4: CorsOrigins has a space in its value. Separate entries by commas alone."),
        ('parameter_overrides = "AllowedConfigurationIds=\\"a b\\""', "samconfig.toml:2: AllowedConfigurationIds has a space in its value. Separate entries by commas alone."),
        ('parameter_overrides = [\n  # "AllowedConfigurationIds=*",\n  "Architecture=arm64",\n]', "samconfig.toml: [default.deploy.parameters] has no AllowedConfigurationIds in parameter_overrides."),
        ('parameter_overrides = [\n  "AllowedConfigurationIds=*",\n  "IncodeBaseURL=https://saas-api.incodesmile.com",\n]', "samconfig.toml:4: IncodeBaseURL is not a parameter of template.yaml."),
        ("", "samconfig.toml: [default.deploy.parameters] has no AllowedConfigurationIds in parameter_overrides."),
    ],
    ids=["no flows", "no flows, --guided", "empty", "space", "space, quoted", "commented out", "misspelled", "no parameters"],
)
def test_make_deploy_refuses_what_cannot_be_deployed(text, refusal, tmp_path):
    path = tmp_path / "samconfig.toml"
    path.write_text(f"[default.deploy.parameters]\n{text}\n[prod.deploy.parameters]\nparameter_overrides = [\"AllowedConfigurationIds=*\"]\n")
    assert parameters_by_make(path, "default", "check=1", ROOT / "template.yaml") == (1, [refusal])


@pytest.mark.parametrize(("target", "tool"), [("build", "sam"), ("validate", "sam"), ("local", "docker"), ("package", "aws"), ("call", "aws"), ("set-key", "aws"), ("logs", "sam"), ("delete", "sam")])
def test_a_missing_tool_is_named_in_one_line(target, tool, tmp_path):
    for program in ("sh", "awk", "head", "sed", "uname"):
        (tmp_path / program).symlink_to(subprocess.run(["which", program], capture_output=True, text=True, check=True).stdout.strip())
    result = make(target, executable=subprocess.run(["which", "make"], capture_output=True, text=True, check=True).stdout.strip(), env={"PATH": str(tmp_path)})
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1 and lines[0].startswith(f"{tool} is missing: "), result.stderr


def test_the_bill_of_materials_lists_what_the_binary_holds():
    made = make("sbom", "ARCH=x86_64")
    assert made.returncode == 0, made.stderr
    bom = json.loads((ROOT / ".build/sbom/bom.json").read_text())
    built = subprocess.run(["go", "version", "-m", ROOT / ".build/sbom/bootstrap"], capture_output=True, text=True, check=True).stdout
    want = {tuple(fields.split("\t")[:2]) for fields in re.findall(r"^\tdep\t(.*)", built, re.M)}
    assert len(want) > 9
    assert {(c["name"], c["version"]) for c in bom["components"]} == want | {("std", re.search(r"go1\S+", built).group())}
    hashes = {p["name"]: p["value"] for p in bom["metadata"]["properties"]}
    assert hashes["cdx:gomod:binary:hash:SHA-256"] == hashlib.sha256((ROOT / ".build/sbom/bootstrap").read_bytes()).hexdigest()
    assert hashes["cdx:gomod:build:env:GOARCH"] == "amd64"


@pytest.mark.parametrize(
    ("deployed", "same"),
    [({"bootstrap": "built"}, True), ({"bootstrap": "another"}, False), ({"bootstrap": "built", "extension": ""}, False)],
    ids=["what was built", "another binary", "a file more"],
)
def test_the_documented_commands_compare_lambda_with_the_build(deployed, same, tmp_path):
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as package:
        for name, text in deployed.items():
            package.writestr(name, text)
    sha = base64.b64encode(hashlib.sha256((tmp_path / "package.zip").read_bytes()).digest()).decode()
    (tmp_path / "aws").write_text(
        "#!/bin/sh\ncase $* in *describe-stacks*omnistart*Alias*) echo arn:live;; "
        f"*arn:live*Code.Location*) echo file://{tmp_path}/package.zip;; *arn:live*CodeSha256*) echo {sha};; *) exit 1;; esac\n"
    )
    (tmp_path / "aws").chmod(0o755)
    (tmp_path / "make").write_text("#!/bin/sh\nmkdir -p .aws-sam/build/StartFunction && printf built >.aws-sam/build/StartFunction/bootstrap\n")
    (tmp_path / "make").chmod(0o755)
    ran = subprocess.run(["bash", "-e", "-c", documented_code("bash")], cwd=tmp_path, env=ENV | {"PATH": f"{tmp_path}:{ENV['PATH']}"}, capture_output=True, text=True)
    assert ran.stdout.split()[:2] == [sha, sha], ran.stderr
    assert (ran.returncode == 0, "same" in ran.stdout.split()) == (same, same), ran.stdout


def test_help_lists_the_targets():
    listed = set(re.findall(r"^  make ([a-z-]+) ", make("help").stdout, re.M))
    assert {"build", "validate", "sbom", "local", "deploy", "package", "set-key", "call", "logs", "delete", "help"} <= listed


COOKIE = 'session="a\\b"; theme=dark'


class Api(http.server.BaseHTTPRequestHandler):
    """Answers 200 where the caller has shown what it must, as API Gateway does before the function is called."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        ok = self.headers["Authorization"] == "Bearer token-of-a-client" or self.headers["Cookie"] == COOKIE or self.signed(body)
        self.send_response(200 if ok else 403)
        self.end_headers()
        self.wfile.write(b'{"token":"eyJ"}' if ok else b'{"message":"Forbidden"}')

    def signed(self, body):
        given = self.headers["Authorization"] or ""
        if not (match := re.search(r"Credential=\w+/\d+/eu-west-1/execute-api/aws4_request, ?SignedHeaders=([\w;-]+), ?Signature=(\w+)", given)):
            return False
        names, signature = match.groups()
        request = AWSRequest("POST", self.server.url, data=body, headers={n: self.headers[n] for n in names.split(";")})
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        auth = SigV4Auth(Credentials("AKIDEXAMPLE", "secret", "session"), "execute-api", "eu-west-1")
        canonical = auth.canonical_request(request)
        return "x-amz-security-token" in names and auth.signature(auth.string_to_sign(request, canonical), request) == signature

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """An account, played by moto, with the stacks omnistart (SigV4), omnistart-staging (JWT) and sessions (an authorizer)."""
    port = free_port()
    moto = Process(tmp_path_factory.mktemp("moto") / "log", "moto_server", "-H", "127.0.0.1", "-p", str(port), ready="Running on")
    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    api.url = f"http://127.0.0.1:{api.server_port}/omni/start"
    threading.Thread(target=api.serve_forever, daemon=True).start()
    env = ENV | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "session",
        "URL": api.url,
    }
    session = boto3.Session("AKIDEXAMPLE", "secret", "session", "eu-west-1")
    secrets = session.client("secretsmanager", endpoint_url=env["AWS_ENDPOINT_URL"])
    for name, mode in (("omnistart", "sigv4"), ("omnistart-staging", "jwt"), ("sessions", "authorizer")):
        outputs = {"SecretArn": secrets.create_secret(Name=name)["ARN"], "Url": api.url, "AuthMode": mode}
        assert set(outputs) <= set(SOURCE["Outputs"])
        session.client("cloudformation", endpoint_url=env["AWS_ENDPOINT_URL"]).create_stack(
            StackName=name,
            TemplateBody=json.dumps({
                "Resources": {"FunctionLog": {"Type": "AWS::Logs::LogGroup"}},
                "Outputs": {k: {"Value": v} for k, v in outputs.items()},
            }),
        )  # fmt: skip
    yield env, secrets
    api.shutdown()
    moto.stop()


@pytest.mark.parametrize("key", ["k3y-0f-Incode", "k3y\\ with $odd \"characters\"'\n"])
def test_set_key_stores_standard_input(account, key):
    env, secrets = account
    result = make("set-key", env=env, input=key)
    assert result.returncode == 0, result.stderr
    first, *steps = result.stdout.splitlines()
    assert re.fullmatch(r"stored as version \S+", first) and key.strip() not in result.stdout + result.stderr
    assert [step[0] for step in steps] == ["I", "1", "2", "3"] and "revoke" in steps[0] and "revoke" in steps[3], steps
    assert "twice IncodeApiKeyMaxAge" in steps[1] and SOURCE["Parameters"]["IncodeApiKeyMaxAge"]["Default"] == "5m"  # hence 10 minutes
    assert secrets.get_secret_value(SecretId="omnistart")["SecretString"] == key.strip()


def test_set_key_refuses_an_empty_key(account):
    env, _ = account
    result = make("set-key", env=env, input="\n")
    assert result.returncode != 0 and "no key on standard input" in result.stderr


def test_set_key_asks_for_no_key_without_a_stack(account):
    env, _ = account
    result = make("set-key", "ENV=prod", env=env, input="k3y\n")
    assert result.returncode != 0
    assert "omnistart-prod" in result.stderr and "put_secret_value" not in result.stderr and "SecretId" not in result.stderr


@pytest.mark.parametrize(
    ("line", "arch", "region"),
    [
        ('parameter_overrides = "IncodeBaseUrl=https://Architecture.example.com JwtScopes=region:read"', "arm64", ""),
        ('parameter_overrides = "Architecture=x86_64"', "amd64", ""),
        ('parameter_overrides = [\n  "JwtScopes=a",\n  "Architecture=x86_64",\n]', "amd64", ""),
        ('region = "eu-west-1"\nparameter_overrides = "CorsOrigins=\\"https://region.example.com\\" Architecture=\\"x86_64\\" JwtScopes=\\"region:read\\""', "amd64", "--region eu-west-1"),
    ],
    ids=["names inside values", "string", "list", "as sam deploy --guided writes it"],
)
def test_settings_are_read_as_sam_keeps_them(line, arch, region, tmp_path):
    (tmp_path / "internal").symlink_to(ROOT / "internal")
    (tmp_path / "samconfig.toml").write_text(f'version = 0.1\n\n[default.deploy.parameters]\nstack_name = "x"\n{line}\n\n[prod.deploy.parameters]\nregion = "us-west-2"\n')
    printed = subprocess.run(
        ["make", "-f", ROOT / "Makefile", "-n", "set-key", "build-StartFunction"], cwd=tmp_path, env=ENV, capture_output=True, text=True, check=True
    ).stdout
    assert f"GOARCH={arch} " in printed
    assert re.search(r"aws +(.*?) *cloudformation", printed).group(1) == region


def test_call_signs(account):
    env, _ = account
    result = make("call", f"FLOW={FLOW}", env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout) == {"token": "eyJ"}
    assert make("call", env=env | {"AWS_SECRET_ACCESS_KEY": "wrong"}).returncode != 0


def test_package_prints_the_address_of_one_template(account, filled_in):
    env, _ = account
    s3 = boto3.client("s3", "eu-west-1", endpoint_url=env["AWS_ENDPOINT_URL"], aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    printed = [make("package", "ENV=staging", cwd=filled_in, env=env) for _ in range(2)]
    assert printed[0].returncode == 0, printed[0].stderr
    assert printed[0].stdout == printed[1].stdout, "the same code and template keep their address"
    (key,) = re.fullmatch(rf"https://s3\.eu-west-1\.amazonaws\.com/{BUCKET}/(omnistart-staging/\d+\.template)\n", printed[0].stdout).groups()
    template = yaml_parse(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode())
    package = template["Resources"]["StartFunction"]["Properties"]["CodeUri"].removeprefix(f"s3://{BUCKET}/")
    assert package.startswith("omnistart-staging/")
    with zipfile.ZipFile(io.BytesIO(s3.get_object(Bucket=BUCKET, Key=package)["Body"].read())) as archive:
        assert archive.namelist() == ["bootstrap"]
    assert template["Transform"] == SOURCE["Transform"] and set(template["Parameters"]) == set(SOURCE["Parameters"])


def aws_cli(path, version, keys=None):
    """An AWS CLI of that version, whose only credentials are a profile's. The rest it has the installed one do."""
    (path / "aws").write_text(
        f"#!/bin/sh\ncase $* in --version) echo aws-cli/{version} Python/3;; *export-credentials*) printf '%s\\n' {keys or ''};; "
        f'*) AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b exec {shutil.which("aws")} "$@";; esac\n'
    )
    (path / "aws").chmod(0o755)
    return {"PATH": f"{path}:{ENV['PATH']}"}


def test_call_takes_the_credentials_of_a_profile_from_version_2_of_the_aws_cli(account, tmp_path):
    env = {k: v for k, v in account[0].items() if k not in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}}
    keys = "'export AWS_ACCESS_KEY_ID=AKIDEXAMPLE' 'export AWS_SECRET_ACCESS_KEY=secret' 'export AWS_SESSION_TOKEN=session'"
    result = make("call", env=env | aws_cli(tmp_path, "2.9.19", keys))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"token": "eyJ"}
    version_1 = make("call", env=env | aws_cli(tmp_path, "1.46.3"))
    (line,) = [line for line in version_1.stderr.splitlines() if not line.startswith("make: ***")]
    assert version_1.returncode != 0 and line.startswith("make call needs AWS CLI version 2, or the credentials in AWS_ACCESS_KEY_ID")


def test_the_documented_back_end_signs(account, monkeypatch):
    env, _ = account
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, env[name])
    names = {}
    exec(documented_code("python", "start_session"), names)
    assert names["start_session"](env["URL"], "eu-west-1", FLOW, "customer-42") == "eyJ"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(names["StartError"]) as refused:
        names["start_session"](env["URL"], "eu-west-1", FLOW, "customer-42")
    assert (refused.value.code, refused.value.session_started) == ("403", "no")


def test_call_sends_a_token_if_the_stack_needs_one(account):
    env, _ = account
    result = make("call", "ENV=staging", env=env | {"TOKEN": "token-of-a-client"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout) == {"token": "eyJ"}
    missing = make("call", "ENV=staging", env=env)
    assert missing.returncode != 0 and "TOKEN is missing" in missing.stderr


@pytest.mark.parametrize("given", [{"TOKEN": "token-of-a-client"}, {"HEADER": f"Cookie: {COOKIE}"}], ids=["token", "cookie"])
def test_call_sends_what_an_authorizer_reads(account, given, tmp_path):
    env, _ = account
    (tmp_path / "samconfig.toml").write_text('[default.global.parameters]\nstack_name = "sessions"\n')

    def call(**variables):
        return make("-f", ROOT / "Makefile", "call", cwd=tmp_path, env=env | variables)

    result = call(**given)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout) == {"token": "eyJ"}
    assert call(HEADER="Cookie: session=none").returncode != 0
    missing = call()
    assert missing.returncode != 0 and "HEADER" in missing.stderr
