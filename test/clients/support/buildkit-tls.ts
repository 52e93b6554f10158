// BuildKit on a TCP port of the loopback that speaks TLS, and only with clients that the CA of fixtures/certificates knows.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { BuildkitTls } from '../../../src/builds/backends/buildkit/network.ts';
import { clientPath } from './clients.ts';
import { findFreePort, type Killable, run, startProcess } from './process.ts';

export interface TlsBuildkit extends Killable {
  /** For buildctl: `tcp://127.0.0.1:<port>`. */
  readonly address: string;
  /** What a client needs that is let in. */
  readonly tls: BuildkitTls;
}

export async function startTlsBuildkit(folder: string): Promise<TlsBuildkit> {
  const own = await mkdtemp(join(folder, 'tls-'));
  const file = join(own, 'buildkitd.toml');
  await writeFile(
    file,
    `root = "${join(own, 'buildkit')}"
[otel]
socketPath = "${join(own, 'otel.sock')}"
[worker.containerd]
enabled = false
`,
  );
  const address = `tcp://127.0.0.1:${await findFreePort()}`;
  const tls = { caPath: pem('ca.pem'), certPath: pem('client.pem'), keyPath: pem('client.key') };
  const client = ['--addr', address, '--tlscacert', tls.caPath, '--tlscert', tls.certPath, '--tlskey', tls.keyPath];
  const server = ['--tlscacert', pem('ca.pem'), '--tlscert', pem('server.pem'), '--tlskey', pem('server.key')];
  const running = await startProcess(clientPath('buildkitd'), ['--config', file, '--addr', address, ...server], {
    checkReady: () => run(clientPath('buildctl'), [...client, 'debug', 'workers']),
  });
  return { ...running, address, tls };
}

function pem(name: string): string {
  return resolve('fixtures/certificates', name);
}
