// A certified OpenID provider for the tests of the whole: panva's oidc-provider over TLS.
//
// It is as strict as the real ones: PKCE is a must, clients are public, refresh tokens rotate, and
// one that comes back a second time ends its whole grant. `offline_access` is given only with
// prompt=consent. Access tokens are JWTs for the audience AUDIENCE.
//
//     node provider.mjs < settings.json    (one line: {modules, cert, key, client_id, audience, host, port})
//
// Prints one line {"issuer": …} when it listens; ends when stdin does. What tests ask of it is in
// `forTests` at the end.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const given = JSON.parse((await lines.next()).value);
const require = createRequire(`${given.modules}/`);
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const settings = {
  access_ttl_s: 3600,
  delay_ms: 0, // of the token endpoint
  lose_every: 0, // of its good answers: the connection is cut after the work is done
  reuse_grace_s: 0, // how long a rotated refresh token still counts as unused
};
// Every secret that it gave out or was sent, by the canaries' names for them.
const secrets = { rt: [], at: [], 'id token': [], code: [], 'code verifier': [] };
const seen = {
  codes: 0, refreshes: 0, refused: 0, lost: 0, revocations: 0, grants_revoked: 0, devices: 0, registrations: 0,
};

// The adapter that comes with oidc-provider, and a grace time for refresh tokens.
const stored = new Map();
const expires = new Map();
const byGrant = new Map();
const opaque = { RefreshToken: 'rt', AuthorizationCode: 'code' }; // their ids are their values

class Memory {
  constructor(model) { this.model = model; }
  key(id) { return `${this.model}:${id}`; }
  async upsert(id, payload, ttl_s) {
    const key = this.key(id);
    if (this.model in opaque && !stored.has(key)) secrets[opaque[this.model]].push(id);
    stored.set(key, payload);
    expires.set(key, ttl_s ? Date.now() + ttl_s * 1000 : Infinity);
    if (payload.grantId) byGrant.set(payload.grantId, [...(byGrant.get(payload.grantId) ?? []), key]);
    if (payload.userCode) stored.set(`user code:${payload.userCode}`, id);
    if (payload.uid) stored.set(`uid:${this.model}:${payload.uid}`, id);
  }
  async find(id) {
    const key = this.key(id);
    if (!(expires.get(key) > Date.now())) return undefined;
    const payload = stored.get(key);
    const grace = this.model === 'RefreshToken' && settings.reuse_grace_s;
    if (grace && payload?.consumed && Date.now() / 1000 - payload.consumed < grace) {
      const { consumed, ...fresh } = payload;
      return fresh;
    }
    return payload;
  }
  async findByUid(uid) { return this.find(stored.get(`uid:${this.model}:${uid}`)); }
  async findByUserCode(code) { return this.find(stored.get(`user code:${code}`)); }
  async consume(id) {
    const payload = stored.get(this.key(id));
    if (payload) payload.consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) { stored.delete(this.key(id)); }
  async revokeByGrantId(grantId) {
    for (const key of byGrant.get(grantId) ?? []) stored.delete(key);
    byGrant.delete(grantId);
  }
}

const server = createServer({ cert: readFileSync(given.cert), key: readFileSync(given.key) });
server.keepAliveTimeout = 30_000;
await new Promise((done) => server.listen(given.port, given.host, done));
const issuer = new URL(`https://${given.host}:${server.address().port}`).origin;
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });

console.warn = console.info = () => {}; // it warns of what is meant for tests
const provider = new Provider(issuer, {
  adapter: Memory,
  clients: [{
    client_id: given.client_id,
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
    response_types: ['code'],
    redirect_uris: ['http://127.0.0.1/callback', 'http://localhost/callback'],
  }],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'e2e' }] },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  claims: { openid: ['sub'], email: ['email'] },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, email: `${sub}@example.com` }) }),
  ttl: {
    AccessToken: () => settings.access_ttl_s, RefreshToken: 86400, Session: 86400, Grant: 86400,
    Interaction: 600, IdToken: 600, DeviceCode: 600, AuthorizationCode: 60,
  },
  features: {
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => given.audience,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: '', audience: given.audience, accessTokenFormat: 'jwt',
        accessTokenTTL: settings.access_ttl_s, jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});

provider.on('grant.revoked', () => { seen.grants_revoked += 1; });

function count(ctx) {
  const { path, status } = ctx;
  if (path === '/token/revocation') seen.revocations += 1;
  if (path === '/reg' && status === 201) seen.registrations += 1;
  if (path !== '/token') return;
  const { grant_type: kind = '', code_verifier: verifier } = ctx.oidc?.params ?? {};
  if (verifier) secrets['code verifier'].push(verifier);
  if (status !== 200) { seen.refused += 1; return; }
  secrets.at.push(ctx.body.access_token);
  if (ctx.body.id_token) secrets['id token'].push(ctx.body.id_token);
  if (kind === 'refresh_token') seen.refreshes += 1;
  else if (kind === 'authorization_code') seen.codes += 1;
  else seen.devices += 1;
}

let answers = 0;

provider.use(async (ctx, next) => {
  if (ctx.path === '/token' && settings.delay_ms) await sleep(settings.delay_ms);
  await next();
  count(ctx);
  if (ctx.path !== '/token' || ctx.status !== 200) return;
  answers += 1;
  if (settings.lose_every && answers % settings.lose_every === Math.floor(settings.lose_every / 2)) {
    seen.lost += 1;
    ctx.respond = false;
    ctx.req.socket.destroy();
  }
});

async function newSession() {
  const of = { accountId: 'dev', clientId: given.client_id };
  const grant = new provider.Grant(of);
  grant.addOIDCScope('openid offline_access');
  grant.addResourceScope(given.audience, '');
  const client = await provider.Client.find(given.client_id);
  const token = new provider.RefreshToken({
    accountId: 'dev', client, grantId: await grant.save(), gty: 'authorization_code', rotations: 0,
    scope: 'openid offline_access', resource: given.audience,
  });
  return token.save();
}

function isLive(refreshToken) {
  const found = stored.get(`RefreshToken:${refreshToken}`);
  return found !== undefined && !found.consumed && stored.has(`Grant:${found.grantId}`);
}

// What a test asks: a path below /test/, and what it sends; what it gets.
const forTests = {
  settings: (sent) => Object.assign(settings, sent),
  seen: () => seen,
  secrets: () => secrets,
  session: newSession, // a refresh token of a session that nobody logged in to
  live: isLive, // is this refresh token good, and was it not used yet?
};

async function body(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return JSON.parse(Buffer.concat(pieces).toString() || 'null');
}

const answer = provider.callback();
server.on('request', async (request, response) => {
  const [, place, name] = request.url.split('/');
  if (place !== 'test') return answer(request, response);
  const found = await forTests[name](await body(request));
  response.setHeader('content-type', 'application/json');
  return response.end(JSON.stringify(found));
});

console.log(JSON.stringify({ issuer }));
for (let line; !(line = await lines.next()).done;);
process.exit(0);
