"""What the contract leaves to the operator, told to Schemathesis."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    """Names hosts and flows that the operator of this run has allowed: a schema cannot know them."""
    if isinstance(body, dict):
        url = body.get("redirectionUrl")
        if isinstance(url, str) and url.startswith("https://"):
            body["redirectionUrl"] = "https://app.example.com/done"
        if body.get("configurationId") not in (None, "6245f1e0c8d4b2a39e7f1c05") and str(body["configurationId"])[:1] in "01234567":
            body["configurationId"] = "6245f1e0c8d4b2a39e7f1c05"
    return body
