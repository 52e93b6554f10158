// Distribution that wants a password.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hashSync } from 'bcryptjs';
import { stringify } from 'yaml';
import type { BuildCredentials } from '../../../src/builds/backend.ts';
import { clientPath } from './clients.ts';
import type { Server } from './daemons.ts';
import { findFreePort, startProcess } from './process.ts';

export interface GuardedRegistry extends Server {
  readonly credentials: BuildCredentials;
}

/** With an empty store below the folder; nothing can be read or written without the credentials. */
export async function startGuardedRegistry(folder: string): Promise<GuardedRegistry> {
  const own = await mkdtemp(join(folder, 'guarded-'));
  const credentials = { username: 'builder', password: 'canary-password-of-the-guarded-registry' };
  const address = `127.0.0.1:${await findFreePort()}`;
  const path = join(own, 'htpasswd');
  await writeFile(path, `${credentials.username}:${hashSync(credentials.password, 4)}\n`);
  const file = join(own, 'registry.yml');
  const storage = { filesystem: { rootdirectory: join(own, 'registry') } };
  const auth = { htpasswd: { realm: 'guarded', path } };
  await writeFile(file, stringify({ version: 0.1, storage, auth, http: { addr: address } }));
  const running = await startProcess(clientPath('registry'), ['serve', file], {
    env: { OTEL_TRACES_EXPORTER: 'none' },
    checkReady: () => checkRefusal(`http://${address}/v2/`),
  });
  return { ...running, address, credentials };
}

/** Throws unless the address asks for credentials. */
async function checkRefusal(url: string): Promise<void> {
  const response = await fetch(url);
  await response.body?.cancel();
  if (response.status !== 401) throw new Error(`${url} answers ${response.status}`);
}
