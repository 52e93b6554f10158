// The signing key: which keys are taken, and that one of our own stays and stays private.
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AccessFault } from '../../src/access/access.ts';
import { loadSigningKey, parseSigningKey } from '../../src/access/keys.ts';
import { temporaryDirectory } from './fixture.ts';

const ed25519 = generateKeyPairSync('ed25519').privateKey;
const p256 = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;

test.each([
  ['Ed25519 in PEM', toPem(ed25519), 'EdDSA'],
  ['Ed25519 in JWK', toJwk(ed25519), 'EdDSA'],
  ['P-256 in PEM', toPem(p256), 'ES256'],
  ['P-256 in SEC1 PEM', p256.export({ type: 'sec1', format: 'pem' }).toString(), 'ES256'],
  ['P-256 in JWK', ` ${toJwk(p256)}\n`, 'ES256'],
])('%s is taken', (_name, text, algorithm) => {
  const key = parseSigningKey(text, 'access.signingKey');
  expect(key).toMatchObject({ algorithm, privateKey: { type: 'private' }, publicKey: { type: 'public' } });
});

test.each([
  ['nothing', ''],
  ['text', 'canary'],
  ['JSON that is broken', '{"kty":"OKP","d":"canary"'],
  ['a JWK that is none', '{"kty":"OKP","crv":"Ed25519","d":"canary","x":"canary"}'],
  ['a shared secret', '{"kty":"oct","k":"canary"}'],
  ['a public key', generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }).toString()],
  ['RSA', toPem(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey)],
  ['another curve', toPem(generateKeyPairSync('ec', { namedCurve: 'secp384r1' }).privateKey)],
  ['a PEM that is cut off', toPem(ed25519).slice(0, 60)],
])('%s is a fault that quotes nothing', (_name, text) => {
  const fault = 'access.signingKey: expected a private key, Ed25519 or P-256, as PEM or JWK';
  expect(() => parseSigningKey(text, 'access.signingKey')).toThrow(new AccessFault([fault]));
});

test('a key of our own is made once, for this user alone, and stays', async () => {
  const directory = await temporaryDirectory();
  const path = join(directory, 'signing-key.pem');
  const made = await loadSigningKey(path);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(directory)).toEqual(['signing-key.pem']);
  const found = await loadSigningKey(path);
  expect(found.algorithm).toBe('EdDSA');
  expect(found.privateKey.equals(made.privateKey)).toBe(true);
});

test('a file that holds no key is a fault, and is left as it is', async () => {
  const path = join(await temporaryDirectory(), 'signing-key.pem');
  await writeFile(path, 'canary');
  await expect(loadSigningKey(path)).rejects.toThrow(`${path}: expected a private key`);
  await expect(loadSigningKey(path)).rejects.not.toThrow('canary');
  expect(await readFile(path, 'utf8')).toBe('canary');
});

test('a file that cannot be read is a fault', async () => {
  const directory = await temporaryDirectory();
  await expect(loadSigningKey(directory)).rejects.toThrow(`cannot read the key ${directory} (EISDIR)`);
});

function toPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function toJwk(key: KeyObject): string {
  return JSON.stringify(key.export({ format: 'jwk' }));
}
