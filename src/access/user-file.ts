// The users, read from their file anew whenever it has changed.
import { readFile, stat } from 'node:fs/promises';
import { RegistryError } from '../oci/errors.ts';
import { AccessFault } from './fault.ts';
import { parseHtpasswd, type UserHashes } from './htpasswd.ts';

export interface UserFile {
  /** Throws UNAVAILABLE while the file cannot be read or has a fault: a user who was taken out must not stay in because of it. */
  read(): Promise<UserHashes>;
}

interface UserFileOptions {
  readonly path: string;
  /** Is told of a fault once for each state of the file. */
  readonly onFault: (fault: AccessFault) => void;
}

interface Read {
  readonly version: string;
  readonly result: UserHashes | AccessFault;
}

/** Reads the file at once. Throws AccessFault. */
export async function openUserFile({ path, onFault }: UserFileOptions): Promise<UserFile> {
  let last: Read = await readUsers(path);
  if (last.result instanceof AccessFault) throw last.result;

  return {
    async read() {
      if ((await versionOf(path)) !== last.version) {
        const next = await readUsers(path);
        // Another read may have seen it meanwhile.
        if (next.version !== last.version && next.result instanceof AccessFault) onFault(next.result);
        last = next;
      }
      if (!(last.result instanceof AccessFault)) return last.result;
      const reason = 'the file of users has a fault, which the log of Veneer names';
      throw new RegistryError('UNAVAILABLE', reason, { cause: last.result });
    },
  };
}

async function readUsers(path: string): Promise<Read> {
  // First the version: of a file that changes meanwhile we have the older one, and read it again.
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
