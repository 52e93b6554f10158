// Images that are pushed to a registry of our own and pulled from it, and what the requests for their manifests cost.
import { fileURLToPath } from 'node:url';
import type { Benchmark, Environment } from './benchmark.ts';
import { type Client, createClient } from './client.ts';
import { inTurn, pick, type Side } from './comparison.ts';
import { pushImage as pushIndex } from './image.ts';
import { measureRate, time } from './load.ts';
import { type Server, startServer } from './processes.ts';
import { timeProcessor } from './processor.ts';
import { measurePulls, settleDisk } from './pulls.ts';
import { createBlob, createImage, pullImage, pushBlob, pushImage } from './random-image.ts';
import { type Pair, repositoryIn, startHost, startHosts, stopPair } from './registries.ts';
import { measureRequests } from './requests.ts';

const PARALLEL = 8;
const LARGE_MIB = 100;

interface SmallImages {
  readonly name: string;
  readonly size: string;
  readonly layerBytes: number;
  readonly pushes: number;
  readonly pullsOfEach: number;
}

interface Hosts {
  readonly servers: Pair;
  /** The addresses of the repository that all is pushed to. */
  readonly repository: Readonly<Record<Side, string>>;
  readonly client: Client;
}

/** Each pair of new images. */
function smallImages({ name, size, layerBytes, pushes, pullsOfEach }: SmallImages): Benchmark {
  return {
    rows: [
      { name: `push-${name}`, what: `pushes of images of ${size}, 8 at once`, unit: 'images/s', better: 'higher' },
      { name: `pull-${name}`, what: `pulls of images of ${size}, 8 at once`, unit: 'images/s', better: 'higher' },
    ],
    async prepare(environment) {
      const { client, repository } = await startEnvironment(environment);
      return async pair => {
        const images = Array.from({ length: pushes }, () => createImage(layerBytes));
        const pulls = Array.from({ length: pullsOfEach }, () => images).flat();
        return [
          await inSettledTurn(pair, side =>
            measureRate(images, PARALLEL, image => pushImage(client, repository[side], image)),
          ),
          await inTurn(pair, side => measureRate(pulls, PARALLEL, image => pullImage(client, repository[side], image))),
        ];
      };
    },
  };
}

const largeImage: Benchmark = {
  rows: [
    { name: 'push-100m', what: 'push of an image of 100 MiB, one client', unit: 'MiB/s', better: 'higher' },
    { name: 'push-100m-processor', what: 'processor time of that push', unit: 'ms', better: 'lower' },
    { name: 'pull-100m', what: 'pull of an image of 100 MiB, one client', unit: 'MiB/s', better: 'higher' },
  ],
  async prepare(environment) {
    const { client, repository, servers } = await startEnvironment(environment);
    return async pair => {
      const image = createImage(LARGE_MIB * 2 ** 20);
      const blob = `blobs/${image.layers[0]?.digest}`;
      const pushed = await inSettledTurn(pair, async side => {
        const push = () => time(() => pushImage(client, repository[side], image));
        const { result, milliseconds } = await timeProcessor(servers[side], push);
        return { rate: (LARGE_MIB * 1000) / result, processor: milliseconds };
      });
      const pulled = await inSettledTurn(pair, side => measurePulls(servers[side], `${repository[side]}/${blob}`));
      return [pick(pushed, 'rate'), pick(pushed, 'processor'), pick(pulled, 'rate')];
    };
  },
};

/** Veneer beside what Node can do at most with the same blob. */
const largeBlobLimit: Benchmark = {
  rows: [
    {
      name: 'push-100m-limit',
      what: 'push of a blob of 100 MiB',
      unit: 'MiB/s',
      better: 'higher',
      peer: 'bare server',
    },
    {
      name: 'push-100m-limit-processor',
      what: 'processor time of that push',
      unit: 'ms',
      better: 'lower',
      peer: 'bare server',
    },
    { name: 'pull-100m-limit', what: 'pull of that blob', unit: 'MiB/s', better: 'higher', peer: 'bare server' },
    {
      name: 'pull-100m-limit-processor',
      what: 'processor time of a GiB of such pulls',
      unit: 'ms',
      better: 'lower',
      peer: 'bare server',
    },
  ],
  async prepare(environment) {
    const { client, repository, servers } = await startBesideBare(environment);
    return async pair => {
      const blob = createBlob(LARGE_MIB * 2 ** 20);
      const pushed = await inSettledTurn(pair, async side => {
        const push = () => time(() => pushBlob(client, repository[side], blob));
        const { result, milliseconds } = await timeProcessor(servers[side], push);
        return { rate: (LARGE_MIB * 1000) / result, processor: milliseconds };
      });
      const url = (side: Side) => `${repository[side]}/blobs/${blob.digest}`;
      const pulled = await inSettledTurn(pair, side => measurePulls(servers[side], url(side)));
      return [
        ...[pick(pushed, 'rate'), pick(pushed, 'processor')],
        ...[pick(pulled, 'rate'), pick(pulled, 'processor')],
      ];
    };
  },
};

/** Small blobs, beside the same program. */
function smallBlobsLimit({ name, size, layerBytes, pushes }: Omit<SmallImages, 'pullsOfEach'>): Benchmark {
  const what = `pushes of blobs of ${size}, 8 at once`;
  return {
    rows: [{ name: `push-${name}-limit`, what, unit: 'blobs/s', better: 'higher', peer: 'bare server' }],
    async prepare(environment) {
      const { client, repository } = await startBesideBare(environment);
      return async pair => {
        const blobs = Array.from({ length: pushes }, () => createBlob(layerBytes));
        const push = (side: Side) => measureRate(blobs, PARALLEL, blob => pushBlob(client, repository[side], blob));
        return [await inSettledTurn(pair, push)];
      };
    },
  };
}

const manifests: Benchmark = {
  rows: [
    { name: 'hosted-tag', what: 'hosted manifest by tag', unit: 'requests/s', better: 'higher' },
    { name: 'hosted-digest', what: 'hosted manifest by digest', unit: 'requests/s', better: 'higher' },
  ],
  async prepare(environment) {
    const { servers, repository } = await startEnvironment(environment);
    const index = await pushIndex(repository.peer, '1');
    await pushIndex(repository.veneer, '1');
    return async pair => {
      const measure = async (reference: string) => {
        const url = (side: Side) => `${repository[side]}/manifests/${reference}`;
        return pick(await inTurn(pair, side => measureRequests(servers[side], url(side))), 'rate');
      };
      return [await measure('1'), await measure(index)];
    };
  },
};

export const HOSTED: readonly Benchmark[] = [
  smallImages({ name: '1k', size: '1 KiB', layerBytes: 1024, pushes: 200, pullsOfEach: 3 }),
  smallImages({ name: '1m', size: '1 MiB', layerBytes: 2 ** 20, pushes: 40, pullsOfEach: 3 }),
  largeImage,
  largeBlobLimit,
  smallBlobsLimit({ name: '1k', size: '1 KiB', layerBytes: 1024, pushes: 400 }),
  smallBlobsLimit({ name: '1m', size: '1 MiB', layerBytes: 2 ** 20, pushes: 80 }),
  manifests,
];

async function startEnvironment({ directory, stack }: Environment): Promise<Hosts> {
  const servers = stack.adopt(await startHosts(directory), stopPair);
  const client = stack.adopt(createClient(), ({ close }) => close());
  return { servers, client, repository: repositoryIn(servers, 'bench/pushed') };
}

/** Veneer, and a program that does no more with a blob than it must. */
async function startBesideBare({ directory, stack }: Environment): Promise<Hosts> {
  const file = fileURLToPath(new URL('bare-blobs.ts', import.meta.url));
  const start = (server: Server) => stack.adopt(server, ({ stop }) => stop());
  const servers = {
    veneer: start(await startHost(directory, 'veneer')),
    peer: start(await startServer({ file: process.execPath, args: [file, directory] })),
  };
  const client = stack.adopt(createClient(), ({ close }) => close());
  return { servers, client, repository: repositoryIn(servers, 'bench/pushed') };
}

/** What was written before does not go to the disk on somebody else's time. */
async function inSettledTurn<T>(pair: number, measure: (side: Side) => Promise<T>): Promise<Record<Side, T>> {
  return inTurn(pair, async side => {
    await settleDisk();
    return measure(side);
  });
}
