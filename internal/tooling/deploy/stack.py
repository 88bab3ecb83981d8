"""What CloudFormation would make of template.yaml: both transforms, then the intrinsic functions, all offline."""

import itertools
import os
import re
from copy import deepcopy
from pathlib import Path

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

ROOT = Path(__file__).resolve().parents[3]
SOURCE = yaml_parse((ROOT / "template.yaml").read_text())

NO_VALUE = object()
PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::NoValue": NO_VALUE,
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "omnistart",
    "AWS::URLSuffix": "amazonaws.com",
}

os.environ["AWS_DEFAULT_REGION"] = PSEUDO["AWS::Region"]  # the transform asks for one


class Rejected(Exception):
    """A parameter or a combination of parameters that CloudFormation would not accept."""


class NoPolicies:
    """SAM asks IAM for the managed policies, which this template does not use."""

    def load(self):
        return {}


def with_parameters(node, values):
    """What AWS::LanguageExtensions does here: a reference to a parameter becomes its value.

    Not SAM CLI's own imitation, which also takes Fn::Sub away from what it cannot resolve.
    """
    if isinstance(node, dict):
        if set(node) == {"Ref"} and node["Ref"] in values:
            return values[node["Ref"]]
        return {k: with_parameters(v, values) for k, v in node.items()}
    return [with_parameters(v, values) for v in node] if isinstance(node, list) else node


class Stack:
    """The template for one set of parameters. Values are concrete; a resource stands for itself as <LogicalId>."""

    def __init__(self, **parameters):
        self.parameters = {}
        for name, declared in SOURCE["Parameters"].items():
            value = parameters.pop(name, declared.get("Default"))
            check_parameter(name, declared, value)
            self.parameters[name] = value
        assert not parameters, f"no such parameters: {parameters}"
        for rule in SOURCE["Rules"].values():
            for assertion in rule["Assertions"]:
                if not self.resolve(assertion["Assert"]):
                    raise Rejected(assertion["AssertDescription"])

        assert SOURCE["Transform"] == ["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"]
        self.template = self.transformed(with_parameters(SOURCE["Resources"], self.parameters))
        self.resources = self._present(self.template["Resources"])
        self.outputs = {name: o["Value"] for name, o in self._present(self.template["Outputs"]).items()}

    def transformed(self, resources):
        """The template with these resources after SAM's transform."""
        source = deepcopy({**SOURCE, "Resources": resources})
        source["Resources"]["StartFunction"]["Properties"]["CodeUri"] = "s3://bucket/key"  # as sam package leaves it
        return transform(source, dict(self.parameters), NoPolicies())

    def _present(self, section):
        return {k: self.resolve(v) for k, v in section.items() if "Condition" not in v or self.condition(v["Condition"])}

    def of_type(self, kind):
        return {name: r["Properties"] for name, r in self.resources.items() if r["Type"] == kind}

    def one(self, kind):
        (properties,) = self.of_type(kind).values()
        return properties

    def condition(self, name):
        return self.resolve(self.template["Conditions"][name] if hasattr(self, "template") else SOURCE["Conditions"][name])

    def resolve(self, node):
        if isinstance(node, list):
            return [v for v in map(self.resolve, node) if v is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function == "Ref" or function.startswith("Fn::"):
                return getattr(self, "_" + function.removeprefix("Fn::").lower())(argument)
        resolved = {k: v if k == "Condition" and isinstance(v, str) else self.resolve(v) for k, v in node.items()}
        return {k: v for k, v in resolved.items() if v is not NO_VALUE}

    def _ref(self, name):
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        assert name in self.template["Resources"], f"!Ref {name}"
        return f"<{name}>"

    def _getatt(self, argument):
        name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        assert name in self.template["Resources"], f"!GetAtt {name}"
        return f"<{name}.{attribute}>"

    def _sub(self, argument):
        text, names = argument if isinstance(argument, list) else (argument, {})
        names = {k: self.resolve(v) for k, v in names.items()}

        def value(match):
            name = match.group(1)
            return str(names[name] if name in names else self._getatt(name) if "." in name else self._ref(name))

        return re.sub(r"\$\{([A-Za-z0-9_:.]+)\}", value, text)

    def _if(self, argument):
        name, yes, no = argument
        return self.resolve(yes if self.condition(name) else no)

    def _equals(self, argument):
        a, b = map(self.resolve, argument)
        return str(a) == str(b)

    def _not(self, argument):
        return not self.resolve(argument[0])

    def _and(self, argument):
        return all(map(self.resolve, argument))

    def _or(self, argument):
        return any(map(self.resolve, argument))

    def _split(self, argument):
        separator, text = map(self.resolve, argument)
        return text.split(separator)

    def _join(self, argument):
        separator, parts = argument
        return separator.join(map(str, self.resolve(parts)))


def check_parameter(name, declared, value):
    """Raises Rejected as CloudFormation does, which anchors AllowedPattern at both ends."""
    if value is None:
        raise Rejected(f"{name} must have a value")
    if "AllowedValues" in declared and str(value) not in map(str, declared["AllowedValues"]):
        raise Rejected(f"{name} must be one of {declared['AllowedValues']}")
    if "AllowedPattern" in declared and not re.fullmatch(declared["AllowedPattern"], str(value)):
        raise Rejected(f"{name} {declared['ConstraintDescription']}")
    if len(str(value)) > declared.get("MaxLength", 4096):
        raise Rejected(f"{name} must have at most {declared['MaxLength']} characters")
    if "MinValue" in declared and float(value) < declared["MinValue"]:
        raise Rejected(f"{name} must be at least {declared['MinValue']}")


SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:incode-AbCdEf"
SECRET_KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
LOG_KEY = "arn:aws:kms:eu-west-1:123456789012:key/66666666-7777-8888-9999-000000000000"
ISSUER = {"JwtIssuer": "https://login.example.com/", "JwtAudience": "omnistart,omnistart-beta"}
AUTHORIZER = {"AuthorizerFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:session-authorizer:live"}
CORS = {"CorsOrigins": "https://a.example.com,https://b.example.com"}
DOMAIN = {
    "DomainName": "start.example.com",
    "CertificateArn": "arn:aws:acm:eu-west-1:123456789012:certificate/11111111-2222-3333-4444-555555555555",
}
CHOICES = [
    {
        "sigv4": {},
        "jwt": ISSUER,
        "jwt+scopes": {**ISSUER, "JwtScopes": "session:start,admin"},
        "authorizer": AUTHORIZER,
        "cookie": {**AUTHORIZER, "AuthorizerIdentitySource": "$request.header.Cookie"},
        "jwt and authorizer": {**ISSUER, **AUTHORIZER},
    },
    {"no domain": {}, "domain": DOMAIN, "mutual TLS": {**DOMAIN, "TruststoreUri": "s3://bucket/ca.pem"}},
    {"no key": {}, "secret's key": {"SecretKmsKeyArn": SECRET_KEY}, "both keys": {"SecretKmsKeyArn": SECRET_KEY, "LogKmsKeyArn": LOG_KEY}},
    {"new secret": {}, "own secret": {"IncodeApiKeySecretArn": SECRET}},
    {"no CORS": {}, "CORS": CORS, "CORS+cookies": {**CORS, "CorsCredentials": "true", "CorsHeaders": "traceparent,baggage"}},
]


def combinations():
    """Every combination of the choices, as (name, parameters)."""
    for picked in itertools.product(*(choice.items() for choice in CHOICES)):
        parameters = {"AllowedConfigurationIds": "*"}
        for _, p in picked:
            parameters.update(p)
        yield ", ".join(name for name, _ in picked), parameters
