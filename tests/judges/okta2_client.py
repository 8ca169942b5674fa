"""Asks the Okta simulator with PyPI's okta 2: prints what it saw as JSON. Arguments: URL, login, one-time code."""

import asyncio
import json
import sys

from okta.client import Client


def text(value):
    """An enumeration's value; some models give plain text."""
    return getattr(value, "value", value)


async def main(url, login, code):
    seen = {}
    client = Client({"orgUrl": url, "token": "simulator-okta-token"})
    user, _, error = await client.get_user(login)
    assert error is None, error
    seen["login"], seen["status"] = user.profile.login, str(user.status)
    factors, _, error = await client.list_factors(user.id)
    assert error is None, error
    seen["factors"] = [(text(factor.factor_type), text(factor.provider)) for factor in factors]
    by_type = {text(factor.factor_type): factor for factor in factors}
    totp = by_type["token:software:totp"]
    for name, passcode in (("wrong", "000000"), ("right", code), ("again", code)):
        answer, _, error = await client.verify_factor(user.id, totp.id, {"passCode": passcode})
        seen[name] = error.error_code if error else str(answer.factor_result)
    push, _, error = await client.verify_factor(user.id, by_type["push"].id, {})
    assert error is None, error
    seen["push"] = str(push.factor_result)
    transaction = push.links["poll"]["href"].rsplit("/", 1)[1]
    while True:
        polled, _, error = await client.get_factor_transaction_status(user.id, by_type["push"].id, transaction)
        assert error is None, error
        seen["polled"] = str(polled.factor_result)
        if "WAITING" not in seen["polled"]:
            break
        await asyncio.sleep(0.05)
    _, _, error = await client.get_user("nobody@corp.example.com")
    seen["nobody"] = error.error_code
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
