// Veneer in a container, as a careful operator runs it.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { type Server, upstreamsTo } from './daemons.ts';
import type { Environment } from './environment.ts';
import { checkUrl, findFreePort, run, startProcess } from './process.ts';

export interface Service extends Server {
  /** The name of the container. */
  readonly container: string;
}

/** Runs the image with the environment's registry as an upstream, a root file system that is read-only, and no capability. */
export async function runService(host: string, { folder, registry }: Environment, image: string): Promise<Service> {
  const port = await findFreePort();
  const address = `127.0.0.1:${port}`;
  const container = `veneer-${port}`;
  const config = join(folder, 'service.yaml');
  await writeFile(config, stringify({ upstreams: upstreamsTo(registry) }));
  const running = await startProcess(
    'docker',
    [
      ...['-H', host, 'run', '--name', container, '--read-only', '--tmpfs', '/tmp', '--cap-drop', 'ALL'],
      ...['--security-opt', 'no-new-privileges'],
      // The engine has no bridge here: the container shares the network of the machine, and stays on its loopback.
      ...['--network', 'host', '--env', `VENEER_LISTEN=${address}`, '--volume', `${config}:/app/veneer.yaml:ro`, image],
    ],
    { checkReady: () => checkUrl(`http://${address}/health/ready`) },
  );
  const stop = async () => {
    await running.stop();
    await run('docker', ['-H', host, 'rm', '--force', '--volumes', container]);
  };
  return { container, address, stop };
}
