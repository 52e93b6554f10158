// Keys for signing bearer tokens and for sealing client credentials. Generated ones are stored across restarts.
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
  randomUUID,
} from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { AccessFault } from './access.ts';

export interface SigningKey {
  readonly algorithm: 'EdDSA' | 'ES256';
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** The key in the file at `path`. If there is none, generates an Ed25519 key that only this user may read. Throws AccessFault. */
export async function loadSigningKey(path: string): Promise<SigningKey> {
  return parseSigningKey(await readOrMake(path, makeKey), path);
}

/** Parses a private key as PEM or JWK; `place` is used in error messages. Throws AccessFault. */
export function parseSigningKey(text: string, source: string): SigningKey {
  const privateKey = readKey(text);
  const algorithm = privateKey && algorithmOf(privateKey);
  if (privateKey && algorithm) return { algorithm, privateKey, publicKey: createPublicKey(privateKey) };
  throw new AccessFault([`${source}: expected a private key, Ed25519 or P-256, as PEM or JWK`]);
}

function makeKey(): string {
  const { privateKey } = generateKeyPairSync('ed25519');
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

const jwkSchema = z.looseObject({ kty: z.string() });

/** Undefined for anything but a private key: the errors of the parsers could quote it. */
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

/** The text of the file at `path`; a missing file is created, readable only by this user. Throws AccessFault for an unreadable one. */
export async function readOrMake(path: string, make: () => string): Promise<string> {
  return (await readText(path)) ?? (await write(path, make()));
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    if (code === 'ENOENT') return undefined;
    throw new AccessFault([`cannot read the key ${path} (${code})`], { cause });
  }
}

/** Written to a temporary file and renamed: it is there whole, or not at all. */
async function write(path: string, text: string): Promise<string> {
  const draft = `${path}.${randomUUID()}`;
  await writeFile(draft, text, { mode: 0o600, flag: 'wx', flush: true });
  await rename(draft, path);
  return text;
}

/** For client credentials that are passed to upstreams, 32 bytes each: to seal them in bearer tokens, and to derive scopes from them. */
interface PassThroughKeys {
  readonly sealing: Uint8Array;
  readonly scopes: Uint8Array;
}

const BYTES = 32;
const HEX = /^[0-9a-f]{64}$/;

/** Files of secrets that all processes need which share their records, by their names in a data directory, and how they are made. */
export const SHARED_SECRETS: Readonly<Record<string, () => string>> = {
  'signing-key.pem': makeKey,
  'passing-key': makeSecret,
  'builds/contexts-key': makeSecret,
};

/** Makes the file at `path` have this text. Throws AccessFault where it cannot be read. */
export async function replaceSecret(path: string, text: string): Promise<void> {
  if ((await readText(path)) !== text) await write(path, text);
}

function makeSecret(): string {
  return `${randomBytes(BYTES).toString('hex')}\n`;
}

/** From the secret in the file at `path`, which is created if absent. Throws AccessFault. */
export async function loadPassThroughKeys(path: string): Promise<PassThroughKeys> {
  const text = (await readOrMake(path, makeSecret)).trim();
  if (!HEX.test(text)) throw new AccessFault([`${path}: expected a key of ${2 * BYTES} hex characters`]);
  const derive = (use: string) => new Uint8Array(hkdfSync('sha256', Buffer.from(text, 'hex'), '', use, BYTES));
  return { sealing: derive('veneer: sealed credentials'), scopes: derive('veneer: scopes') };
}
