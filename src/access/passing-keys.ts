// The keys for credentials of clients that upstreams get to see: one to seal them in bearer tokens, one to tell what each of them opened.
import { hkdfSync, randomBytes } from 'node:crypto';
import { AccessFault } from './fault.ts';
import { readOrMake } from './key-file.ts';

interface PassingKeys {
  /** 32 bytes each. */
  readonly sealing: Uint8Array;
  readonly scopes: Uint8Array;
}

const BYTES = 32;
const HEX = /^[0-9a-f]{64}$/;

/** From the secret in the file at `path`, which is made if there is none. Throws AccessFault. */
export async function loadPassingKeys(path: string): Promise<PassingKeys> {
  const text = (await readOrMake(path, () => `${randomBytes(BYTES).toString('hex')}\n`)).trim();
  if (!HEX.test(text)) throw new AccessFault([`${path}: expected a key of ${2 * BYTES} hex characters`]);
  const derive = (use: string) => new Uint8Array(hkdfSync('sha256', Buffer.from(text, 'hex'), '', use, BYTES));
  return { sealing: derive('veneer: sealed credentials'), scopes: derive('veneer: scopes') };
}
