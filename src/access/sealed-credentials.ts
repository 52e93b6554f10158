// Bearer tokens that contain a client's credentials, sealed, so that clients of the token flow can pass theirs to an upstream. Not verified
// here: the upstream does that. AES-256-GCM; only we can open them, and none is stored.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { RegistryError } from '../oci/errors.ts';
import type { TokenIssuer } from './access.ts';
import type { PasswordCredentials } from './authorization.ts';

export interface SealedCredentials extends TokenIssuer {
  /** Undefined for a client without credentials. Throws UNAUTHORIZED for a token that is not ours, was modified, or has expired. */
  open(token: string): PasswordCredentials | undefined;
}

const ALGORITHM = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

const sealedSchema = z.object({
  credentials: z.tuple([z.string(), z.string()]).optional(),
  /** In epoch milliseconds. */
  until: z.number(),
});

type Sealed = z.infer<typeof sealedSchema>;

export function createSealedCredentials({
  key,
  ttlMs,
  now,
}: {
  /** 32 bytes. */
  readonly key: Uint8Array;
  readonly ttlMs: number;
  readonly now: () => Date;
}): SealedCredentials {
  function seal(content: Sealed): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(ALGORITHM, key, nonce);
    const sealed = Buffer.concat([cipher.update(JSON.stringify(content), 'utf8'), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64url');
  }

  function unseal(token: string): Sealed {
    const bytes = Buffer.from(token, 'base64url');
    try {
      const decipher = createDecipheriv(ALGORITHM, key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
      decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
      const opened = [decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()];
      return sealedSchema.parse(JSON.parse(Buffer.concat(opened).toString()));
    } catch {
      // Whatever the error, its cause could quote the token.
      throw new RegistryError('UNAUTHORIZED', 'the bearer token is not one of ours');
    }
  }

  return {
    async issue({ credentials, asked }) {
      const issuedAt = now();
      const { username = '', password = '' } = credentials ?? {};
      const isShown = username !== '' || password !== '';
      const token = seal({
        ...(isShown && { credentials: [username, password] as const }),
        until: issuedAt.getTime() + ttlMs,
      });
      return { token, issuedAt, expiresInSeconds: Math.floor(ttlMs / 1000), granted: asked, subject: '' };
    },
    open(token) {
      const { credentials, until } = unseal(token);
      if (now().getTime() >= until) throw new RegistryError('UNAUTHORIZED', 'the bearer token has expired');
      if (!credentials) return undefined;
      const [username, password] = credentials;
      return { kind: 'password', username, password };
    },
  };
}
