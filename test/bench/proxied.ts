// One manifest and large blobs: of an upstream, and through Veneer and other proxies of it.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Benchmark, Environment, Row } from './benchmark.ts';
import { type Figures, inTurn, pick, type Side } from './comparison.ts';
import { repositoriesOf, repositoryAt } from './environment.ts';
import { pushImage, pushRandomBlob } from './image.ts';
import { startNginx } from './nginx.ts';
import { type Server, startServer } from './processes.ts';
import { countTransfers, measurePulls, type Pulls, settleDisk } from './pulls.ts';
import { measureRequests, request } from './requests.ts';

const WARM_BYTES = 256 * 2 ** 20;
const COLD_BYTES = 128 * 2 ** 20;
const MANY = 20;

/** What is measured on each side: the server, and the address of its repository. */
type Sides = Readonly<Record<Side, { readonly server: Server; readonly repository: string }>>;

/** Which servers are compared. */
type Choose = (environment: Environment) => Promise<Sides>;

/** Veneer, which keeps what it pulled, beside a registry that has it. */
const besideUpstream: Choose = async environment => {
  const upstream = await environment.upstream();
  return { ...(await besideProxy(environment)), peer: { server: upstream, repository: repositoryAt(upstream) } };
};

const besideProxy: Choose = async environment => {
  const proxies = await environment.proxies();
  const { veneer, peer } = repositoriesOf(proxies);
  return {
    veneer: { server: proxies.veneer, repository: veneer },
    peer: { server: proxies.peer, repository: peer },
  };
};

const besideNginx: Choose = async environment => {
  const nginx = await startNginx(join(environment.directory, 'nginx'), await environment.upstream());
  environment.stack.defer(() => nginx.stop());
  return { ...(await besideProxy(environment)), peer: { server: nginx, repository: repositoryAt(nginx) } };
};

/** A program that does no more than it must with a body on its way. */
const besideBare: Choose = async environment => {
  const file = fileURLToPath(new URL('bare-blobs.ts', import.meta.url));
  const upstream = await environment.upstream();
  const args = [file, environment.directory, `http://${upstream.address}`];
  const bare = await startServer({ file: process.execPath, args });
  environment.stack.defer(() => bare.stop());
  return { ...(await besideProxy(environment)), peer: { server: bare, repository: repositoryAt(bare) } };
};

const warmManifest: Benchmark = {
  rows: [
    { name: 'warm-manifest', what: 'warm manifest by digest', unit: 'requests/s', better: 'higher' },
    { name: 'warm-manifest-processor', what: 'processor time of a request for it', unit: 'µs', better: 'lower' },
  ],
  async prepare(environment) {
    const sides = await besideUpstream(environment);
    const index = await pushImage(sides.peer.repository, 'warm');
    return async pair => {
      const taken = await inTurn(pair, side => {
        const { server, repository } = sides[side];
        return measureRequests(server, `${repository}/manifests/${index}`);
      });
      return [pick(taken, 'rate'), pick(taken, 'processor')];
    };
  },
};

/** Veneer beside what Node and hono can do at most, a body of the same size. */
const bareManifest: Benchmark = {
  rows: [
    {
      name: 'warm-manifest-bare',
      what: 'warm manifest by digest',
      unit: 'requests/s',
      better: 'higher',
      peer: 'bare server',
    },
  ],
  async prepare(environment) {
    const { veneer, peer } = await besideUpstream(environment);
    const url = `${veneer.repository}/manifests/${await pushImage(peer.repository, 'bare')}`;
    const { byteLength } = await (await request(url)).bytes();
    const file = fileURLToPath(new URL('bare.ts', import.meta.url));
    const bare = await startServer({ file: process.execPath, args: [file, String(byteLength)] });
    environment.stack.defer(() => bare.stop());
    const servers = { veneer: veneer.server, peer: bare };
    const urls = { veneer: url, peer: `http://${bare.address}/v2/app/manifests/1` };
    return async pair => [pick(await inTurn(pair, side => measureRequests(servers[side], urls[side])), 'rate')];
  },
};

function warmBlob(choose: Choose, pullers: Pullers): Benchmark {
  return {
    rows: describePulls('warm', 'warm blob of 256 MiB', pullers),
    async prepare(environment) {
      const sides = await choose(environment);
      const blob = await pushRandomBlob(repositoryAt(await environment.upstream()), WARM_BYTES);
      await inTurn(0, pullFrom(sides, blob, 1));
      await settleDisk();
      return async pair => figuresOf(await inTurn(pair, pullFrom(sides, blob, pullers.clients)));
    },
  };
}

/** Each pair of a blob that no proxy has. */
function coldBlob(choose: Choose, pullers: Pullers): Benchmark {
  return {
    rows: describePulls('cold', 'cold blob of 128 MiB', pullers),
    async prepare(environment) {
      const sides = await choose(environment);
      const upstream = repositoryAt(await environment.upstream());
      return async pair => {
        const blob = await pushRandomBlob(upstream, COLD_BYTES);
        const pull = pullFrom(sides, blob, pullers.clients);
        const taken = await inTurn(pair, async side => {
          await settleDisk();
          return pull(side);
        });
        return figuresOf(taken);
      };
    },
  };
}

const coldTransfers: Benchmark = {
  rows: [
    {
      name: 'cold-blob-transfers',
      what: `upstream transfers of a cold blob for ${MANY} clients`,
      unit: 'transfers',
      better: 'lower',
    },
  ],
  maxPairs: 3,
  async prepare(environment) {
    const sides = await besideProxy(environment);
    const upstream = await environment.upstream();
    return async pair => {
      const blob = await pushRandomBlob(repositoryAt(upstream), COLD_BYTES);
      const pull = pullFrom(sides, blob, MANY);
      return [await inTurn(pair, side => countTransfers(upstream, blob, () => pull(side)))];
    };
  },
};

export const PROXIED: readonly Benchmark[] = [
  warmManifest,
  bareManifest,
  warmBlob(besideUpstream, { clients: 1 }),
  warmBlob(besideUpstream, { clients: 8 }),
  warmBlob(besideNginx, { clients: 1, peer: 'nginx' }),
  warmBlob(besideNginx, { clients: 8, peer: 'nginx' }),
  warmBlob(besideBare, { clients: 1, peer: 'bare server' }),
  warmBlob(besideBare, { clients: 8, peer: 'bare server' }),
  coldBlob(besideProxy, { clients: 1 }),
  coldBlob(besideProxy, { clients: MANY }),
  coldBlob(besideNginx, { clients: 1, peer: 'nginx' }),
  coldBlob(besideNginx, { clients: MANY, peer: 'nginx' }),
  coldBlob(besideBare, { clients: 1, peer: 'bare server' }),
  coldTransfers,
];

interface Pullers {
  readonly clients: number;
  readonly peer?: string;
}

/** The rows of `figuresOf`. */
function describePulls(kind: string, what: string, { clients, peer }: Pullers): readonly Row[] {
  const name = `${kind}-blob-${clients}${peer ? `-${peer === 'bare server' ? 'limit' : peer}` : ''}`;
  const from = `${what}, ${clients === 1 ? 'one client' : `${clients} clients`}`;
  const beside = peer ? { peer } : {};
  return [
    { name, what: from, unit: 'MiB/s', better: 'higher', ...beside },
    {
      name: `${name}-processor`,
      what: `processor time of a GiB of ${from}`,
      unit: 'ms',
      better: 'lower',
      ...beside,
    },
  ];
}

function pullFrom(sides: Sides, digest: string, clients: number): (side: Side) => Promise<Pulls> {
  return side => measurePulls(sides[side].server, `${sides[side].repository}/blobs/${digest}`, clients);
}

function figuresOf(taken: Record<Side, Pulls>): readonly Figures[] {
  return [pick(taken, 'rate'), pick(taken, 'processor')];
}
