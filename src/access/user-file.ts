// The file of users, reread whenever it changes: one `name:hash` a line, as Apache's htpasswd -B writes it. Only bcrypt: other hashes can
// be brute-forced.
import { readFile, stat } from 'node:fs/promises';
import { RegistryError } from '../oci/errors.ts';
import { AccessFault } from './access.ts';

export interface UserFile {
  /** Throws UNAVAILABLE while the file is unreadable or faulty: a removed user must not stay because of an error. */
  read(): Promise<UserHashes>;
}

interface Read {
  readonly version: string;
  readonly result: UserHashes | AccessFault;
}

/** Reads the file at once. Throws AccessFault. */
export async function openUserFile({
  path,
  onFault,
}: {
  readonly path: string;
  /** Called once for each faulty state of the file. */
  readonly onFault: (fault: AccessFault) => void;
}): Promise<UserFile> {
  let last: Read = await readUsers(path);
  if (last.result instanceof AccessFault) throw last.result;

  return {
    async read() {
      if ((await versionOf(path)) !== last.version) {
        const next = await readUsers(path);
        // A concurrent read may have seen it meanwhile.
        if (next.version !== last.version && next.result instanceof AccessFault) onFault(next.result);
        last = next;
      }
      if (!(last.result instanceof AccessFault)) return last.result;
      const reason = 'the file of users is invalid: see the log of Veneer';
      throw new RegistryError('UNAVAILABLE', reason, { cause: last.result });
    },
  };
}

async function readUsers(path: string): Promise<Read> {
  // The version first: if the file changes meanwhile, we have the older one, and read it again.
  const version = await versionOf(path);
  try {
    return { version, result: parseHtpasswd(await readFile(path, 'utf8'), path) };
  } catch (error) {
    if (error instanceof AccessFault) return { version, result: error };
    return { version, result: new AccessFault([`cannot read ${path} (${codeOf(error)})`]) };
  }
}

async function versionOf(path: string): Promise<string> {
  try {
    const { mtimeNs, size, ino } = await stat(path, { bigint: true });
    return `${mtimeNs} ${size} ${ino}`;
  } catch (error) {
    return codeOf(error);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** bcrypt hashes by user name. */
export type UserHashes = ReadonlyMap<string, string>;

const BCRYPT = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;
/** Each step doubles the time of a login; beyond this it is many seconds. */
const COST = { min: 4, max: 16 } as const;
const MAX_NAME = 255;
const MAX_BYTES = 1024 * 1024;

/** Empty lines and those that begin with # are ignored. Throws AccessFault with the line number of every error; never quotes a line. */
export function parseHtpasswd(text: string, path: string): UserHashes {
  if (text.length > MAX_BYTES) throw new AccessFault([`${path} is larger than ${MAX_BYTES} bytes`]);
  const lines = text.split(/\r?\n/).map((line, index) => ({ line, location: `${path}:${index + 1}` }));
  const entries = lines.filter(({ line }) => line.trim() !== '' && !line.startsWith('#'));
  const hashes = new Map<string, string>();
  const faults: string[] = [];
  for (const { line, location } of entries) {
    const { name, hash } = splitLine(line);
    const fault = hashes.has(name) ? 'duplicate user' : findFault(name, hash);
    if (fault === undefined) hashes.set(name, hash);
    else faults.push(`${location}: ${fault}`);
  }
  if (faults.length > 0) throw new AccessFault(faults);
  return hashes;
}

/** The highest cost of all hashes; undefined where there are none. */
export function highestCost(hashes: UserHashes): number | undefined {
  const costs = [...hashes.values()].map(costOf);
  return costs.length === 0 ? undefined : Math.max(...costs);
}

function splitLine(line: string): { readonly name: string; readonly hash: string } {
  const colon = line.indexOf(':');
  return { name: line.slice(0, Math.max(colon, 0)), hash: line.slice(colon + 1).trimEnd() };
}

function findFault(name: string, hash: string): string | undefined {
  if (name === '' || name.length > MAX_NAME || /\p{Cc}/u.test(name)) return 'expected <user>:<bcrypt hash>';
  if (!BCRYPT.test(hash)) return 'the hash is not bcrypt ($2y$, $2a$ or $2b$): make it with htpasswd -B';
  const cost = costOf(hash);
  if (cost >= COST.min && cost <= COST.max) return undefined;
  return `the hash has cost ${cost}: expected ${COST.min} to ${COST.max}`;
}

/** The cost of a bcrypt hash. */
export function costOf(hash: string): number {
  return Number(BCRYPT.exec(hash)?.[1]);
}

/** A hash that no password matches. */
export function hashOfNothing(cost: number): string {
  return `$2b$${String(cost).padStart(2, '0')}$${'.'.repeat(53)}`;
}
