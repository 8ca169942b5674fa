// Asks the Okta simulator with npm's @okta/okta-sdk-nodejs: prints what it saw as JSON. Arguments: URL, login, one-time code, and (for
// private_key_jwt instead of SSWS) a file with the private key as JWK or PEM.
'use strict';
const fs = require('fs');
const okta = require('@okta/okta-sdk-nodejs');

async function main(url, login, code, key) {
  const seen = {};
  const client = new okta.Client(
    key
      ? {
          orgUrl: url,
          authorizationMode: 'PrivateKey',
          clientId: '0oaSIMULATOR0000001',
          scopes: ['okta.users.read', 'okta.users.manage'],
          privateKey: fs.readFileSync(key, 'utf8'),
        }
      : { orgUrl: url, token: 'simulator-okta-token' },
  );
  const user = await client.userApi.getUser({ userId: login });
  seen.login = user.profile.login;
  const factors = [];
  await (await client.userFactorApi.listFactors({ userId: user.id })).each((factor) => { factors.push(factor); });
  seen.factors = factors.map((factor) => factor.factorType);
  const of = (type) => factors.find((factor) => factor.factorType === type);
  const verify = async (factor, body) => {
    try {
      const answer = await client.userFactorApi.verifyFactor({ userId: user.id, factorId: factor.id, body });
      return answer.factorResult;
    } catch (error) {
      return error.errorCode;
    }
  };
  const totp = of('token:software:totp');
  seen.wrong = await verify(totp, { passCode: '000000' });
  seen.right = await verify(totp, { passCode: code });
  seen.again = await verify(totp, { passCode: code });
  seen.sms = await verify(of('sms'));
  seen.smsAgain = key ? null : (await verify(of('call'), { passCode: '1' }));
  const push = await client.userFactorApi.verifyFactor({ userId: user.id, factorId: of('push').id });
  seen.push = push.factorResult;
  const transactionId = push._links.poll.href.split('/').pop();
  const ask = { userId: user.id, factorId: of('push').id, transactionId };
  for (;;) {
    const polled = await client.userFactorApi.getFactorTransactionStatus(ask);
    seen.polled = polled.factorResult;
    if (polled.factorResult !== 'WAITING') break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  try {
    await client.userApi.getUser({ userId: 'nobody@corp.example.com' });
  } catch (error) {
    seen.nobody = [error.status, error.errorCode];
  }
  console.log(JSON.stringify(seen));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
