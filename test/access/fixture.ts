// Access over a folder of its own, with users whose hashes are cheap, and a clock that stands still.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compare, hashSync } from 'bcryptjs';
import { onTestFinished } from 'vitest';
import type { Access, AccessFault, AccessOptions, Grant } from '../../src/access/access.ts';
import { type AccessTokens, createAccessTokens } from '../../src/access/access-token.ts';
import type { Bcrypt } from '../../src/access/bcrypt.ts';
import { createAccess } from '../../src/access/granted.ts';
import { createMemory } from '../../src/memory.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const memory = createMemory();

export const START = new Date('2030-01-01T00:00:00Z');

export interface AccessFixture {
  readonly access: Access;
  readonly tokens: AccessTokens;
  readonly directory: string;
  readonly faults: readonly AccessFault[];
  /** Moves the clock. */
  pass(seconds: number): void;
  /** Another process with the same directory and records. */
  openOther(): Promise<Access>;
}

export interface AccessSetup {
  /** Default: without a thread, which takes a while to begin. */
  readonly bcrypt?: Bcrypt;
  /** Passwords by user name. */
  readonly users?: Readonly<Record<string, string>>;
  readonly grants?: readonly Grant[];
  readonly options?: Partial<AccessOptions>;
}

const THREADLESS: Bcrypt = { compare: (password, hash) => compare(password, hash), close: async () => {} };

export async function openAccess({
  users = {},
  grants = [],
  options = {},
  bcrypt = THREADLESS,
}: AccessSetup = {}): Promise<AccessFixture> {
  const directory = await temporaryDirectory();
  const htpasswd = join(directory, 'htpasswd');
  await writeFile(htpasswd, htpasswdOf(users));
  const clock = { time: START.getTime() };
  const now = () => new Date(clock.time);
  const records = createMemoryStore({ now });
  const faults: AccessFault[] = [];
  async function open(): Promise<Access> {
    const access = await createAccess({
      memory,
      options: { htpasswd, tokenTtlMs: 300_000, grants, ...options },
      listenHost: '0.0.0.0',
      publicHost: undefined,
      records,
      dataDir: directory,
      onFault: fault => faults.push(fault),
      now,
      bcrypt,
    });
    onTestFinished(() => access.close());
    return access;
  }
  return {
    access: await open(),
    openOther: open,
    tokens: createAccessTokens({ records, now }),
    directory,
    faults,
    pass(seconds) {
      clock.time += seconds * 1000;
    },
  };
}

export function htpasswdOf(users: Readonly<Record<string, string>>): string {
  return Object.entries(users)
    .map(([name, password]) => `${name}:${hashSync(password, 4)}\n`)
    .join('');
}

export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-access-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}
