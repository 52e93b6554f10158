// Many tags in one repository: how fast they come in, and what a list of them costs.
import type { Benchmark, Environment } from './benchmark.ts';
import { type Client, createClient } from './client.ts';
import { inTurn, pick } from './comparison.ts';
import { digestOf } from './image.ts';
import { measureRate, time } from './load.ts';
import { settleDisk } from './pulls.ts';
import { createImage, pushImage, pushManifest } from './random-image.ts';
import { repositoryIn, startHosts, stopPair } from './registries.ts';
import { measureRequests } from './requests.ts';

const TAGS = Array.from({ length: 10_000 }, (_, index) => `build-${String(index).padStart(5, '0')}`);
const TAGS_OF_REQUEST = 50;
const PAGE = 1_000;
const PARALLEL = 8;
const REPOSITORY = 'bench/tags';

const pushes: Benchmark = {
  rows: [
    { name: 'push-tags', what: 'push of 10 000 tags, one a request', unit: 'tags/s', better: 'higher' },
    { name: 'push-tags-together', what: 'push of 10 000 tags, 50 a request', unit: 'tags/s', better: 'higher' },
  ],
  maxPairs: 1,
  async prepare(environment) {
    const { client, hosts } = await startEnvironment(environment);
    const repository = repositoryIn(hosts, REPOSITORY);
    return async pair => {
      const single = await inTurn(pair, side => pushSingly(client, repository[side]));
      const together = await pushTogether(client, repositoryIn(hosts, 'bench/together').veneer);
      return [single, { veneer: together, peer: single.peer }];
    };
  },
};

const lists: Benchmark = {
  rows: [
    { name: 'list-tags', what: 'list of 10 000 tags, 1000 a page', unit: 'ms', better: 'lower' },
    { name: 'list-tags-middle', what: '100 tags from the middle of 10 000', unit: 'requests/s', better: 'higher' },
  ],
  async prepare(environment) {
    const { client, hosts } = await startEnvironment(environment);
    const repository = repositoryIn(hosts, REPOSITORY);
    await inTurn(0, side => pushSingly(client, repository[side]));
    const page = `tags/list?n=100&last=${TAGS[TAGS.length / 2]}`;
    return async pair => {
      const list = await inTurn(pair, side => time(() => listAll(client, repository[side])));
      const middle = await inTurn(pair, side => measureRequests(hosts[side], `${repository[side]}/${page}`));
      return [list, pick(middle, 'rate')];
    };
  },
};

export const TAG_LISTS: readonly Benchmark[] = [pushes, lists];

async function startEnvironment({ directory, stack }: Environment) {
  const hosts = stack.adopt(await startHosts(directory), stopPair);
  return { hosts, client: stack.adopt(createClient(), ({ close }) => close()) };
}

/** Tags a second, for one manifest. */
async function pushSingly(client: Client, repository: string): Promise<number> {
  const image = createImage(1024);
  await pushImage(client, repository, image);
  await settleDisk();
  return measureRate(TAGS, PARALLEL, tag => pushManifest(client, `${repository}/manifests/${tag}`, image.manifest));
}

/** The same by the tag parameters of a push by digest, which the peer does not know. */
async function pushTogether(client: Client, repository: string): Promise<number> {
  const image = createImage(1024);
  await pushImage(client, repository, image);
  await settleDisk();
  const url = `${repository}/manifests/${digestOf(image.manifest)}`;
  const groups = Array.from({ length: TAGS.length / TAGS_OF_REQUEST }, (_, group) =>
    TAGS.slice(group * TAGS_OF_REQUEST, (group + 1) * TAGS_OF_REQUEST),
  );
  const push = (tags: readonly string[]) =>
    pushManifest(client, `${url}?${new URLSearchParams(tags.map(tag => ['tag', tag]))}`, image.manifest);
  return (await measureRate(groups, PARALLEL, push)) * TAGS_OF_REQUEST;
}

/** Page by page, as the Links lead. Throws unless every tag is there; the one of the image is, too. */
async function listAll(client: Client, repository: string): Promise<void> {
  let count = 0;
  let url: URL | undefined = new URL(`${repository}/tags/list?n=${PAGE}`);
  while (url) {
    const { body, next } = await client.send(url);
    count += new TextDecoder().decode(body).match(/"build-\d{5}"/g)?.length ?? 0;
    url = next;
  }
  if (count !== TAGS.length) throw new Error(`${repository} lists ${count} of ${TAGS.length} tags`);
}
