// Bearer tokens: what was signed comes back, and nothing else is believed.
import { generateKeyPairSync } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { describe, expect, test } from 'vitest';
import { type BearerTokens, createBearerTokens } from '../../src/access/bearer-token.ts';
import { parseSigningKey } from '../../src/access/keys.ts';
import { createMemory } from '../../src/memory.ts';
import { START } from './fixture.ts';

const memory = createMemory();

const CLAIMS = {
  subject: 'ci',
  access: [{ repository: 'local/app', verbs: ['pull', 'push'] }],
  refused: [{ repository: 'local/app', verbs: ['delete'] }],
} as const;
const key = newKey();

test.each([
  ['Ed25519', key],
  ['P-256', newKey('P-256')],
])('brings back what was signed with %s', async (_name, signingKey) => {
  const { tokens } = createFixture(signingKey);
  const { token, issuedAt, expiresInSeconds } = await tokens.issue(CLAIMS);
  expect({ issuedAt, expiresInSeconds }).toEqual({ issuedAt: START, expiresInSeconds: 300 });
  expect(await tokens.verify(token)).toMatchObject(CLAIMS);
});

test('has the claims of the token specification', async () => {
  const { tokens } = createFixture();
  const { token } = await tokens.issue(CLAIMS);
  const iat = START.getTime() / 1000;
  expect(decodeProtectedHeader(token)).toEqual({ alg: 'EdDSA', typ: 'JWT' });
  expect(decodeJwt(token)).toEqual({
    iss: 'veneer',
    aud: 'veneer',
    sub: 'ci',
    iat,
    exp: iat + 300,
    access: [{ type: 'repository', name: 'local/app', actions: ['pull', 'push'] }],
    refused: [{ type: 'repository', name: 'local/app', actions: ['delete'] }],
  });
});

test('is believed by a replica with the same key', async () => {
  const { token } = await createFixture().tokens.issue(CLAIMS);
  expect(await createFixture().tokens.verify(token)).toMatchObject(CLAIMS);
});

test.each([false, true])('has expired after its time, also when it was seen before: %s', async wasSeen => {
  const { tokens, pass } = createFixture();
  const { token } = await tokens.issue(CLAIMS);
  pass(299);
  if (wasSeen) await tokens.verify(token);
  pass(1);
  await expect(tokens.verify(token)).rejects.toMatchObject({
    code: 'UNAUTHORIZED',
    message: 'the bearer token has expired',
  });
});

describe('refuses', () => {
  const iat = START.getTime() / 1000;
  const payload = { iss: 'veneer', aud: 'veneer', sub: 'ci', iat, exp: iat + 300, access: [], refused: [] };
  const sign = (claims: JWTPayload, signingKey = key) =>
    new SignJWT(claims).setProtectedHeader({ alg: signingKey.algorithm }).sign(signingKey.privateKey);
  const publicPem = key.publicKey.export({ type: 'spki', format: 'pem' }).toString();

  test('but not what these are made from', async () => {
    expect(await createFixture().tokens.verify(await sign(payload))).toMatchObject({ subject: 'ci', access: [] });
  });

  test.each<[string, () => Promise<string> | string]>([
    ['nothing', () => ''],
    ['text', () => 'canary'],
    ['three parts of nothing', () => '..'],
    ['another key', () => sign(payload, newKey())],
    ['a key of the other kind', () => sign(payload, newKey('P-256'))],
    ['no signature, alg none', () => new UnsecuredJWT(payload).encode()],
    ['a signature cut off', async () => (await sign(payload)).replace(/\.[^.]*$/, '.')],
    ['our public key as a shared secret', () => signShared(payload, publicPem)],
    ['a changed payload', async () => swapPayload(await sign(payload), { ...payload, sub: 'admin' })],
    ['another audience', () => sign({ ...payload, aud: 'registry.example' })],
    ['no audience', () => sign(without(payload, 'aud'))],
    ['another issuer', () => sign({ ...payload, iss: 'registry.example' })],
    ['no end', () => sign(without(payload, 'exp'))],
    ['an end that is over', () => sign({ ...payload, exp: iat })],
    ['a beginning that is to come', () => sign({ ...payload, nbf: iat + 60 })],
  ])('%s', async (_name, make) => {
    const token = await make();
    const refusal = createFixture().tokens.verify(token);
    await expect(refusal).rejects.toMatchObject({ code: 'UNAUTHORIZED', status: 401 });
    await expect(refusal).rejects.not.toThrow('canary');
  });

  test('every single changed character', async () => {
    const { tokens } = createFixture();
    const { token } = await tokens.issue(CLAIMS);
    // The last character of each part may hold bits that mean nothing.
    const places = [...token].flatMap((character, at) => (/[.]/.test(character + (token[at + 1] ?? '.')) ? [] : [at]));
    const changed = places.map(at => token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1));
    const answers = await Promise.allSettled(changed.map(text => tokens.verify(text)));
    expect(answers.filter(({ status }) => status === 'fulfilled')).toEqual([]);
    expect(answers.length).toBeGreaterThan(200);
  });
});

function createFixture(signingKey = key): { tokens: BearerTokens; pass: (seconds: number) => void } {
  const clock = { time: START.getTime() };
  return {
    tokens: createBearerTokens({ memory, key: signingKey, ttlMs: 300_000, now: () => new Date(clock.time) }),
    pass(seconds) {
      clock.time += seconds * 1000;
    },
  };
}

function newKey(kind: 'Ed25519' | 'P-256' = 'Ed25519') {
  const { privateKey } =
    kind === 'Ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return parseSigningKey(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), 'test');
}

function without(claims: JWTPayload, name: string): JWTPayload {
  return Object.fromEntries(Object.entries(claims).filter(([claim]) => claim !== name));
}

function signShared(claims: JWTPayload, secret: string): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(secret));
}

function swapPayload(token: string, claims: JWTPayload): string {
  const [header, , signature] = token.split('.');
  return [header, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.');
}
