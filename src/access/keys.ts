// Keys: what bearer tokens are signed with, and what credentials of clients are sealed with. Those of our own outlive a restart.
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

/** The text of the file at `path`; where there is none, it is made, for this user alone to read. Throws AccessFault for one that cannot be read. */
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

/** Written aside and renamed: it is there whole, or not at all. */
async function write(path: string, text: string): Promise<string> {
  const draft = `${path}.${randomUUID()}`;
  await writeFile(draft, text, { mode: 0o600, flag: 'wx', flush: true });
  await rename(draft, path);
  return text;
}

/** For credentials of clients that upstreams get to see, 32 bytes each: to seal them in bearer tokens, and to tell what each of them opened. */
interface PassThroughKeys {
  readonly sealing: Uint8Array;
  readonly scopes: Uint8Array;
}

const BYTES = 32;
const HEX = /^[0-9a-f]{64}$/;

/** From the secret in the file at `path`, which is made if there is none. Throws AccessFault. */
export async function loadPassThroughKeys(path: string): Promise<PassThroughKeys> {
  const text = (await readOrMake(path, () => `${randomBytes(BYTES).toString('hex')}\n`)).trim();
  if (!HEX.test(text)) throw new AccessFault([`${path}: expected a key of ${2 * BYTES} hex characters`]);
  const derive = (use: string) => new Uint8Array(hkdfSync('sha256', Buffer.from(text, 'hex'), '', use, BYTES));
  return { sealing: derive('veneer: sealed credentials'), scopes: derive('veneer: scopes') };
}
