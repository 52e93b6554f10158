// Secrets of our own that outlive a restart: made once, for this user alone to read.
import { randomUUID } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { AccessFault } from './fault.ts';

/** The text of the file at `path`; where there is none, it is made. Throws AccessFault for one that cannot be read. */
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
