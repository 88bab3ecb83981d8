"""Tells Schemathesis what the operator of this run has configured."""

import json
import pathlib
import re

import schemathesis

CONTRACT = json.loads((pathlib.Path(__file__).parents[3] / "functions/start/docs/openapi.json").read_text())
FIELDS = CONTRACT["components"]["schemas"]["StartRequest"]["properties"]
ALLOWED = {
    "configurationId": "6245f1e0c8d4b2a39e7f1c05",
    "redirectionUrl": "https://app.example.com/done",
    "externalCustomerId": "customer-7",
}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Replaces values by the allowed flow and host and the caller's own ID, which the schema does not contain.

    Invalid values are not replaced, because the function must see them. Some valid flows and customers are not replaced
    either, so that the function also gets those that are not allowed.
    """
    if isinstance(case.body, dict):
        case.body = {field: allowed(field, value) for field, value in case.body.items()}


def allowed(field, value):
    if field not in ALLOWED or not isinstance(value, str):
        return value
    schema = FIELDS[field]
    valid = re.search(schema["pattern"].replace("$", r"\Z"), value) and len(value) <= schema.get("maxLength", len(value))
    keep = field != "redirectionUrl" and value[:1] in "89abcdef"
    return value if keep or not valid else ALLOWED[field]
