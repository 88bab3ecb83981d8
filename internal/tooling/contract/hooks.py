"""What the contract leaves to the operator, told to Schemathesis."""

import json
import pathlib
import re

import schemathesis

CONTRACT = json.loads((pathlib.Path(__file__).parents[3] / "functions/start/docs/openapi.json").read_text())
FIELDS = CONTRACT["components"]["schemas"]["StartRequest"]["properties"]
ALLOWED = {"configurationId": "6245f1e0c8d4b2a39e7f1c05", "redirectionUrl": "https://app.example.com/done"}


@schemathesis.hook
def map_body(context, body):
    """Names flows and hosts that the operator of this run has allowed, which a schema cannot know.

    It replaces valid values alone: what the schema forbids must reach the function as it is. Some valid flows stay,
    so that a flow which is not allowed is tried as well.
    """
    if isinstance(body, dict):
        for field, allowed in ALLOWED.items():
            value = body.get(field)
            valid = isinstance(value, str) and re.search(FIELDS[field]["pattern"].replace("$", r"\Z"), value)
            stays = field == "configurationId" and valid and value[0] in "89abcdef"
            if valid and len(value) <= FIELDS[field].get("maxLength", len(value)) and not stays:
                body[field] = allowed
    return body
