// `npm run bench`: Veneer beside the registry it pulls from, in one run on one machine. docs/benchmarks.md says what the rows mean.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pushImage, pushRandomBlob } from './image.ts';
import { measureAugmentation, measureMod, measureRequests, measureThroughput } from './measures.ts';
import { findProgram, type Server, startServer } from './processes.ts';
import { formatTable, type Row } from './table.ts';

const NAME = 'bench/app';
const BLOB_BYTES = 256 * 2 ** 20;
const RUNS = 7;

try {
  for (const program of ['registry', 'regctl', 'wrk', 'curl']) findProgram(program);
  const rows = await bench();
  process.stdout.write(
    `${formatTable(rows)}\n\nOnly the ratio counts: the figures are of this machine and this run.\n`,
  );
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function bench(): Promise<readonly Row[]> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'veneer-bench-'));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const peer = stack.adopt(await startPeer(directory), server => server.stop());
  const veneer = stack.adopt(await startVeneer(directory, peer.address), server => server.stop());
  // Awaited here: the servers stop as soon as this function is left.
  return await measure(veneer.address, peer.address, directory);
}

async function measure(veneer: string, peer: string, directory: string): Promise<readonly Row[]> {
  const direct = `http://${peer}/v2/${NAME}`;
  const proxied = `http://${veneer}/v2/lab/${NAME}`;
  const index = await pushImage(direct, '1');
  const blob = await pushRandomBlob(direct, BLOB_BYTES);
  return [
    {
      what: 'warm manifest by digest',
      unit: 'requests/s',
      veneer: await measureRequests(`${proxied}/manifests/${index}`),
      peer: await measureRequests(`${direct}/manifests/${index}`),
    },
    {
      what: 'warm blob of 256 MiB, one client',
      unit: 'MiB/s',
      veneer: await measureThroughput(`${proxied}/blobs/${blob}`, RUNS),
      peer: await measureThroughput(`${direct}/blobs/${blob}`, RUNS),
    },
    {
      what: 'new environment and layer, three platforms',
      unit: 'ms',
      veneer: await measureAugmentation(veneer, `lab/${NAME}:1`, RUNS),
      peer: await measureMod(peer, `${NAME}:1`, RUNS, directory),
    },
  ];
}

async function startPeer(directory: string): Promise<Server> {
  const path = join(directory, 'registry.yaml');
  const storage = { filesystem: { rootdirectory: join(directory, 'registry') } };
  const log = { level: 'info', accesslog: { disabled: true } };
  await writeFile(path, JSON.stringify({ version: 0.1, log, storage, http: { addr: '127.0.0.1:0' } }));
  const env = { OTEL_TRACES_EXPORTER: 'none' };
  return startServer({ file: findProgram('registry'), args: ['serve', path], env });
}

async function startVeneer(directory: string, peer: string): Promise<Server> {
  const path = join(directory, 'veneer.yaml');
  const config = {
    listen: '127.0.0.1:0',
    dataDir: join(directory, 'veneer'),
    log: { level: 'info', format: 'json' },
    upstreams: { lab: { url: `http://${peer}` } },
  };
  await writeFile(path, JSON.stringify(config));
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
  const args = [main, '--config', path, '--listen', config.listen, '--data-dir', config.dataDir];
  const env = { DOCKER_CONFIG: directory, VENEER_LOG: 'info' };
  return startServer({ file: process.execPath, args, env });
}
