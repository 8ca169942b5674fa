"""Asks the Okta simulator with PyPI's okta 3 and private_key_jwt: prints what it saw as JSON. Arguments: URL, login, PEM file, dpop|bearer."""

import asyncio
import json
import pathlib
import sys

from okta.client import Client


async def main(url, login, key, kind):
    seen = {}
    client = Client(
        {
            "orgUrl": url,
            "authorizationMode": "PrivateKey",
            "clientId": "0oaSIMULATOR0000001",
            "scopes": ["okta.users.read", "okta.users.manage"],
            "privateKey": pathlib.Path(key).read_text(),
            "dpopEnabled": kind == "dpop",
        }
    )
    user, _, error = await client.get_user(login)
    assert error is None, error
    seen["login"] = user.profile.login
    factors, _, error = await client.list_factors(user.id)
    assert error is None, error
    kind_of = lambda factor: getattr(factor.factor_type, "value", factor.factor_type)
    seen["factors"] = [kind_of(factor) for factor in factors]
    push = next(factor for factor in factors if kind_of(factor) == "push")
    started, _, error = await client.verify_factor(user.id, push.id)
    assert error is None, error
    seen["push"] = str(started.factor_result)
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
