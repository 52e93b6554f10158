// Registry credentials stored by callers: encrypted with the operator's key, used only for that caller's own work, and never shown.
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { RegistryError } from '../oci/errors.ts';
import { createCollection } from '../state/collection.ts';
import { entriesOf, type RecordStore } from '../state/store.ts';
import { AccessFault } from './access.ts';
import { readOrMake } from './keys.ts';

interface StoredCredentials {
  readonly username: string;
  readonly password: string;
}

interface ShownCredentials {
  readonly registry: string;
  readonly userName: string;
  readonly updatedAt: string;
}

/** Callers are identified by their subjects (subjectOf), registries by their canonical name. */
export interface RegistryCredentials {
  /** In the order of the registries' names. */
  list(subject: string): Promise<readonly ShownCredentials[]>;
  /** Durable when it resolves. Throws TOOMANYREQUESTS for a caller with very many. */
  set(subject: string, registry: string, credentials: StoredCredentials): Promise<void>;
  /** Whether there were any. */
  delete(subject: string, registry: string): Promise<boolean>;
  /** The credentials of a caller, by registry; undefined if there are none. */
  open(subject: string): Promise<ReadonlyMap<string, StoredCredentials> | undefined>;
}

interface CredentialKey {
  readonly id: string;
  readonly bytes: Uint8Array;
}

const ALGORITHM = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
/** The minimum length of a key: a shorter one could be guessed by an attacker who has the records. */
const MIN_KEY_CHARACTERS = 32;
const MAX_PER_CALLER = 100;

const recordSchema = z.object({
  subject: z.string(),
  registry: z.string(),
  /** The id of the key that encrypted it. */
  key: z.string(),
  /** Base64: nonce, tag and the sealed user name and password. */
  sealed: z.string(),
  updatedAt: z.iso.datetime(),
});
type CredentialsRecord = z.infer<typeof recordSchema>;
const sealedSchema = z.object({ username: z.string(), password: z.string() });

/**
 * The first key encrypts, all of them decrypt. Without any, one is generated in the file at `path`. Throws AccessFault.
 */
export async function loadCredentialKeys(
  path: string,
  configured: readonly string[],
): Promise<readonly CredentialKey[]> {
  const short = configured.findIndex(text => text.length < MIN_KEY_CHARACTERS);
  if (short >= 0)
    throw new AccessFault([
      `access.credentialKeys.${short}: expected at least ${MIN_KEY_CHARACTERS} characters, such as those of \`openssl rand -hex 32\``,
    ]);
  const generate = () => `${randomBytes(KEY_BYTES).toString('hex')}\n`;
  const texts = configured.length > 0 ? configured : [(await readOrMake(path, generate)).trim()];
  return texts.map(text => {
    const derive = (use: string) => new Uint8Array(hkdfSync('sha256', text, '', use, KEY_BYTES));
    const id = Buffer.from(derive('veneer: id of a credential key')).toString('hex').slice(0, 12);
    return { id, bytes: derive('veneer: registry credentials') };
  });
}

/** Re-encrypts what an earlier first key encrypted. `onFault` is called if there are credentials that no key decrypts. */
export async function createRegistryCredentials({
  records,
  keys,
  now,
  onFault,
}: {
  readonly records: RecordStore;
  readonly keys: readonly CredentialKey[];
  readonly now: () => Date;
  readonly onFault: (reason: string) => void;
}): Promise<RegistryCredentials> {
  const collection = createCollection({ store: records, name: 'registry-credentials', schema: recordSchema });
  const [first] = keys;
  if (!first) throw new TypeError('there is no key for registry credentials');
  const sealing = first;
  /** Callers with credentials: all others need no lookup in the records. */
  const subjects = new Set<string>();

  async function put(subject: string, registry: string, credentials: StoredCredentials): Promise<void> {
    const sealed = seal(sealing, credentials, boundTo(subject, registry));
    const record = { subject, registry, key: sealing.id, sealed, updatedAt: now().toISOString() };
    await collection.put(keyOf(subject, registry), record);
    subjects.add(subject);
  }

  /** Undefined where no key decrypts it. */
  function unsealRecord({ subject, registry, key, sealed }: CredentialsRecord): StoredCredentials | undefined {
    const known = keys.find(({ id }) => id === key);
    return known && unseal(known, sealed, boundTo(subject, registry));
  }

  async function recordsOf(subject: string): Promise<readonly CredentialsRecord[]> {
    if (!subjects.has(subject)) return [];
    const entries = await collection.entries({ prefix: prefixOf(subject), limit: MAX_PER_CALLER });
    return entries.map(({ value }) => value);
  }

  async function reseal(): Promise<void> {
    let lost = 0;
    for await (const { value } of entriesOf(collection, '')) {
      subjects.add(value.subject);
      if (value.key === sealing.id) continue;
      const opened = unsealRecord(value);
      if (opened) await put(value.subject, value.registry, opened);
      else lost += 1;
    }
    if (lost > 0)
      onFault(`${lost} credentials of registries were sealed with a key that is not in access.credentialKeys`);
  }

  await reseal();
  return {
    async list(subject) {
      const found = await recordsOf(subject);
      return found.map(record => ({
        registry: record.registry,
        userName: unsealRecord(record)?.username ?? '',
        updatedAt: record.updatedAt,
      }));
    },
    async set(subject, registry, credentials) {
      const found = await recordsOf(subject);
      if (found.length >= MAX_PER_CALLER && !found.some(record => record.registry === registry))
        throw new RegistryError(
          'TOOMANYREQUESTS',
          `you have stored credentials of ${MAX_PER_CALLER} registries, the most: delete some first`,
        );
      await put(subject, registry, credentials);
    },
    delete: (subject, registry) => collection.delete(keyOf(subject, registry)),
    async open(subject) {
      const found = await recordsOf(subject);
      const opened = found.flatMap(record => {
        const credentials = unsealRecord(record);
        return credentials ? [[record.registry, credentials] as const] : [];
      });
      return opened.length > 0 ? new Map(opened) : undefined;
    },
  };
}

/** Binds a record to its caller and registry: moved to another, it cannot be decrypted. */
function boundTo(subject: string, registry: string): Buffer {
  return Buffer.from(JSON.stringify([subject, registry]));
}

function seal({ bytes }: CredentialKey, content: StoredCredentials, bound: Buffer): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(ALGORITHM, bytes, nonce).setAAD(bound);
  const sealed = Buffer.concat([cipher.update(JSON.stringify(content), 'utf8'), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64');
}

function unseal({ bytes }: CredentialKey, text: string, bound: Buffer): StoredCredentials | undefined {
  const all = Buffer.from(text, 'base64');
  try {
    const nonce = all.subarray(0, NONCE_BYTES);
    const decipher = createDecipheriv(ALGORITHM, bytes, nonce, { authTagLength: TAG_BYTES }).setAAD(bound);
    decipher.setAuthTag(all.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    const opened = [decipher.update(all.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()];
    return sealedSchema.parse(JSON.parse(Buffer.concat(opened).toString()));
  } catch {
    // The error is dropped, as it could quote the plaintext.
    return undefined;
  }
}

/** Hashed: a subject may be long, and contain any character. */
function prefixOf(subject: string): string {
  return `${createHash('sha256').update(subject).digest('hex')}/`;
}

function keyOf(subject: string, registry: string): string {
  return `${prefixOf(subject)}${registry}`;
}
