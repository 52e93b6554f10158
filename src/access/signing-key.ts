// The key that bearer tokens are signed with: the configured one, or one of our own that outlives a restart.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { AccessFault } from './fault.ts';

export interface SigningKey {
  readonly algorithm: 'EdDSA' | 'ES256';
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** The key in the file at `path`. If there is none, makes an Ed25519 key that only this user may read. Throws AccessFault. */
export async function loadSigningKey(path: string): Promise<SigningKey> {
  return parseSigningKey((await readText(path)) ?? (await makeKey(path)), path);
}

/** Parses a private key as PEM or JWK; `place` is what a fault names. Throws AccessFault. */
export function parseSigningKey(text: string, place: string): SigningKey {
  const privateKey = readKey(text);
  const algorithm = privateKey && algorithmOf(privateKey);
  if (privateKey && algorithm) return { algorithm, privateKey, publicKey: createPublicKey(privateKey) };
  throw new AccessFault([`${place}: expected a private key, Ed25519 or P-256, as PEM or JWK`]);
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    if (code === 'ENOENT') return undefined;
    throw new AccessFault([`cannot read the signing key ${path} (${code})`], { cause });
  }
}

/** Written aside and renamed: it is there whole, or not at all. */
async function makeKey(path: string): Promise<string> {
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const draft = `${path}.${randomUUID()}`;
  await writeFile(draft, pem, { mode: 0o600, flag: 'wx', flush: true });
  await rename(draft, path);
  return pem;
}

const jwkSchema = z.looseObject({ kty: z.string() });

/** Undefined for what is no private key: the errors of the parsers could quote it. */
function readKey(text: string): KeyObject | undefined {
  try {
    if (!text.trimStart().startsWith('{')) return createPrivateKey(text);
    return createPrivateKey({ key: jwkSchema.parse(JSON.parse(text)), format: 'jwk' });
  } catch {
    return undefined;
  }
}

function algorithmOf({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): SigningKey['algorithm'] | undefined {
  if (asymmetricKeyType === 'ed25519') return 'EdDSA';
  return asymmetricKeyType === 'ec' && asymmetricKeyDetails?.namedCurve === 'prime256v1' ? 'ES256' : undefined;
}
