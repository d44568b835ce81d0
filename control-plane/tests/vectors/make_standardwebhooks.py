"""Makes standardwebhooks.json: signatures of the reference library of Standard Webhooks, each verified with it.

    pip install standardwebhooks==1.0.0
    python3 make_standardwebhooks.py > standardwebhooks.json
"""

import base64
import datetime
import json

from standardwebhooks.webhooks import Webhook

SHORT = "whsec_" + base64.b64encode(bytes(range(24))).decode()
LONG = "whsec_" + base64.b64encode(bytes(range(100, 164))).decode()
USUAL = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()

CASES = [
    ([USUAL], "evt_0190f3b0c000aaaaaaaaaaaaaaaa", '{"type":"test","data":{}}'),
    ([SHORT], "evt_1", ""),
    ([LONG], "evt_2", '{"type":"threshold.reached","data":{"subject":"user:żółw","percent":80}}'),
    ([USUAL, SHORT], "evt_3", '{"a":"two secrets, the newer first"}'),
    ([LONG, USUAL, SHORT], "evt_4", '{"a":"..."}\n'),
]


def signature(secret, message_id, timestamp, body):
    at = datetime.datetime.fromtimestamp(timestamp, tz=datetime.timezone.utc)
    return Webhook(secret).sign(msg_id=message_id, timestamp=at, data=body)


def vector(secrets, message_id, body):
    # The library verifies against its own clock.
    timestamp = int(datetime.datetime.now(tz=datetime.timezone.utc).timestamp())
    signed = " ".join(signature(secret, message_id, timestamp, body) for secret in secrets)
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signed,
    }
    if body:
        for secret in secrets:
            Webhook(secret).verify(body, headers)
    return {"secrets": secrets, "id": message_id, "timestamp": timestamp, "body": body, "signature": signed}


print(json.dumps([vector(*case) for case in CASES], indent=1, ensure_ascii=False))
