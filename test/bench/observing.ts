// What Veneer tells of itself: its log, metrics and traces, each turned on beside the same Veneer with it turned off.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import type { Benchmark } from './benchmark.ts';
import { inTurn, pick } from './comparison.ts';
import { repositoryAt } from './environment.ts';
import { pushImage } from './image.ts';
import { startWith, type Tuning } from './registries.ts';
import { measureRequests } from './requests.ts';

interface Told {
  readonly name: string;
  readonly what: string;
  readonly on: (collector: string) => Tuning;
  readonly off: Tuning;
}

const SILENT = { VENEER_LOG: 'warn' };
const UNCOUNTED = { metrics: { enabled: false } };

const ALL_TOLD: readonly Told[] = [
  { name: 'log', what: 'with its log', on: () => ({}), off: { env: SILENT } },
  { name: 'metrics', what: 'with metrics', on: () => ({}), off: { config: UNCOUNTED } },
  { name: 'log-metrics', what: 'with log and metrics', on: () => ({}), off: { env: SILENT, config: UNCOUNTED } },
  {
    ...{ name: 'traces', what: 'with traces of each' },
    ...{ on: collector => ({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector } }), off: {} },
  },
  {
    ...{ name: 'traces-sampled', what: 'with traces of one in 100' },
    on: collector => ({
      env: {
        ...{ OTEL_EXPORTER_OTLP_ENDPOINT: collector, OTEL_TRACES_SAMPLER: 'parentbased_traceidratio' },
        OTEL_TRACES_SAMPLER_ARG: '0.01',
      },
    }),
    off: {},
  },
];

export const OBSERVING: readonly Benchmark[] = ALL_TOLD.map(({ name, what, on, off }) => ({
  rows: [
    {
      ...{ name: `warm-manifest-${name}`, what: `warm manifest by digest, ${what}`, unit: 'requests/s' },
      ...{ better: 'higher', peer: 'Veneer without' },
    },
    {
      ...{ name: `warm-manifest-${name}-processor`, what: `processor time of a request for it, ${what}`, unit: 'µs' },
      ...{ better: 'lower', peer: 'Veneer without' },
    },
  ],
  async prepare({ directory, stack, upstream }) {
    const registry = await upstream();
    const collector = stack.use(await startSink());
    const start = async (side: string, tuning: Tuning) => {
      const server = await startWith(join(directory, side), registry, tuning);
      stack.defer(() => server.stop());
      return server;
    };
    const servers = { veneer: await start('on', on(collector.url)), peer: await start('off', off) };
    const index = await pushImage(repositoryAt(registry), 'observed');
    return async pair => {
      const taken = await inTurn(pair, side =>
        measureRequests(servers[side], `http://${servers[side].address}/v2/lab/bench/app/manifests/${index}`),
      );
      return [pick(taken, 'rate'), pick(taken, 'processor')];
    };
  },
}));

/** A collector that takes all and keeps nothing. */
async function startSink() {
  const server = createServer((request, response) => {
    request.resume().once('end', () => response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === 'object' && address?.port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
