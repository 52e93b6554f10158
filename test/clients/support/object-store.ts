// A real S3 service of its own, on a free port, over a folder that the test removes: versitygw.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clientPath } from './clients.ts';
import { findFreePort, type Killable, startProcess } from './process.ts';

export const OBJECT_STORE_COMMANDS = ['versitygw'] as const;

/** For the chain of the SDK, in this process or another. */
export const OBJECT_STORE_KEY = { AWS_ACCESS_KEY_ID: 'veneer-test', AWS_SECRET_ACCESS_KEY: 'a-secret-of-the-test' };

export interface ObjectServer {
  readonly endpoint: string;
  readonly bucket: string;
  /** Where the objects are files, by their keys. */
  readonly folder: string;
  /** Does nothing while it runs. */
  start(): Promise<void>;
  /** Kills it: connections break, and what was acknowledged is there at the next start. */
  kill(): Promise<void>;
  /** Stops it for good, and removes its files. */
  close(): Promise<void>;
}

export async function startObjectStore({ isReadOnly = false } = {}): Promise<ObjectServer> {
  const root = await mkdtemp(join(tmpdir(), 'veneer-objects-'));
  const bucket = 'veneer';
  const folder = join(root, bucket);
  await mkdir(folder);
  const address = `127.0.0.1:${await findFreePort()}`;
  const endpoint = `http://${address}`;
  const options = ['--port', address, '--quiet', '--keep-alive', ...(isReadOnly ? ['--readonly'] : [])];
  let server: Killable | undefined;

  const store: ObjectServer = {
    endpoint,
    bucket,
    folder,
    async start() {
      if (server) return;
      const { AWS_ACCESS_KEY_ID: access, AWS_SECRET_ACCESS_KEY: secret } = OBJECT_STORE_KEY;
      server = await startProcess(clientPath('versitygw'), [...options, 'posix', root], {
        env: { ROOT_ACCESS_KEY: access, ROOT_SECRET_KEY: secret },
        // It answers, if only that nobody may.
        checkReady: () => fetch(endpoint),
      });
    },
    async kill() {
      await server?.kill();
      server = undefined;
    },
    async close() {
      await store.kill();
      await rm(root, { recursive: true });
    },
  };
  await store.start();
  return store;
}
