// The key that bearer tokens are signed with: the configured one, or one of our own that outlives a restart.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { AccessFault } from './fault.ts';
import { readOrMake } from './key-file.ts';

export interface SigningKey {
  readonly algorithm: 'EdDSA' | 'ES256';
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** The key in the file at `path`. If there is none, makes an Ed25519 key that only this user may read. Throws AccessFault. */
export async function loadSigningKey(path: string): Promise<SigningKey> {
  return parseSigningKey(await readOrMake(path, makeKey), path);
}

/** Parses a private key as PEM or JWK; `place` is what a fault names. Throws AccessFault. */
export function parseSigningKey(text: string, place: string): SigningKey {
  const privateKey = readKey(text);
  const algorithm = privateKey && algorithmOf(privateKey);
  if (privateKey && algorithm) return { algorithm, privateKey, publicKey: createPublicKey(privateKey) };
  throw new AccessFault([`${place}: expected a private key, Ed25519 or P-256, as PEM or JWK`]);
}

function makeKey(): string {
  const { privateKey } = generateKeyPairSync('ed25519');
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
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
