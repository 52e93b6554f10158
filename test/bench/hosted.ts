// Images that are pushed to a registry of our own and pulled from it, and what the requests for their manifests cost.
import { join } from 'node:path';
import { type Client, createClient } from './client.ts';
import { compare, type Figures, inTurn, type Measure } from './comparison.ts';
import { pushImage as pushIndex } from './image.ts';
import { measureRate, time } from './load.ts';
import { measurePulls, settleDisk } from './pulls.ts';
import { createImage, pullImage, pushImage, type RandomImage } from './random-image.ts';
import { repositoryIn, startHosts, stopPair } from './registries.ts';
import { measureRequests } from './requests.ts';
import type { Row } from './table.ts';

/** The addresses of the repository that all is pushed to. */
type Repository = Readonly<Record<keyof Figures, string>>;

const RUNS = 3;
const PARALLEL = 8;
const LARGE_MIB = 100;
const LARGE_RUNS = 7;
const SMALL = [
  { name: '1 KiB', layerBytes: 1024, pushes: 200, pullsOfEach: 3 },
  { name: '1 MiB', layerBytes: 2 ** 20, pushes: 40, pullsOfEach: 3 },
];

export async function measureHosted(directory: string): Promise<readonly Row[]> {
  await using stack = new AsyncDisposableStack();
  const hosts = stack.adopt(await startHosts(join(directory, 'hosted')), stopPair);
  const client = stack.adopt(createClient(), ({ close }) => close());
  const repository = repositoryIn(hosts, 'bench/pushed');
  const rows: Row[] = [];
  for (const images of SMALL) rows.push(...(await measureSmall(client, repository, images)));
  return [...rows, ...(await measureLarge(client, repository)), ...(await measureManifests(repository))];
}

async function measureSmall(client: Client, repository: Repository, { name, layerBytes, ...count }: (typeof SMALL)[0]) {
  let pushed: readonly RandomImage[] = [];
  const push: Measure = () => {
    pushed = Array.from({ length: count.pushes }, () => createImage(layerBytes));
    return inSettledTurn(side => measureRate(pushed, PARALLEL, image => pushImage(client, repository[side], image)));
  };
  const pull: Measure = () => {
    const pulls = Array.from({ length: count.pullsOfEach }, () => pushed).flat();
    return inTurn(side => measureRate(pulls, PARALLEL, image => pullImage(client, repository[side], image)));
  };
  return [
    { what: `pushes of images of ${name}, 8 at once`, unit: 'images/s', ...(await compare(RUNS, push)) },
    { what: `pulls of images of ${name}, 8 at once`, unit: 'images/s', ...(await compare(RUNS, pull)) },
  ];
}

async function measureLarge(client: Client, repository: Repository): Promise<readonly Row[]> {
  let layer = '';
  const push: Measure = () => {
    const image = createImage(LARGE_MIB * 2 ** 20);
    layer = image.layers[0]?.digest ?? '';
    return inSettledTurn(
      async side => LARGE_MIB / ((await time(() => pushImage(client, repository[side], image))) / 1000),
    );
  };
  const pull = () => inSettledTurn(side => measurePulls(`${repository[side]}/blobs/${layer}`));
  return [
    { what: 'push of an image of 100 MiB, one client', unit: 'MiB/s', ...(await compare(LARGE_RUNS, push)) },
    { what: 'pull of an image of 100 MiB, one client', unit: 'MiB/s', ...(await compare(LARGE_RUNS, pull)) },
  ];
}

async function measureManifests(repository: Repository): Promise<readonly Row[]> {
  const index = await pushIndex(repository.peer, '1');
  await pushIndex(repository.veneer, '1');
  const measure = (reference: string) => inTurn(side => measureRequests(`${repository[side]}/manifests/${reference}`));
  return [
    { what: 'hosted manifest by tag', unit: 'requests/s', ...(await measure('1')) },
    { what: 'hosted manifest by digest', unit: 'requests/s', ...(await measure(index)) },
  ];
}

/** What was written before does not go to the disk on somebody else's time. */
async function inSettledTurn(measure: (side: keyof Figures) => Promise<number>): Promise<Figures> {
  return inTurn(async side => {
    await settleDisk();
    return measure(side);
  });
}
