// Many tags in one repository: how fast they come in, and what a list of them costs.
import { join } from 'node:path';
import { type Client, createClient } from './client.ts';
import { compare, inTurn } from './comparison.ts';
import { digestOf } from './image.ts';
import { measureRate, time } from './load.ts';
import { settleDisk } from './pulls.ts';
import { createImage, pushImage, pushManifest } from './random-image.ts';
import { repositoryIn, startHosts, stopPair } from './registries.ts';
import { measureRequests } from './requests.ts';
import type { Row } from './table.ts';

const TAGS = Array.from({ length: 10_000 }, (_, index) => `build-${String(index).padStart(5, '0')}`);
const TAGS_OF_REQUEST = 50;
const PAGE = 1_000;
const PARALLEL = 8;
const RUNS = 5;

export async function measureTags(directory: string): Promise<readonly Row[]> {
  await using stack = new AsyncDisposableStack();
  const hosts = stack.adopt(await startHosts(join(directory, 'tags')), stopPair);
  const client = stack.adopt(createClient(), ({ close }) => close());
  const repository = repositoryIn(hosts, 'bench/tags');
  const single = await inTurn(side => pushSingly(client, repository[side]));
  const together = await pushTogether(client, repositoryIn(hosts, 'bench/together').veneer);
  const list = () => inTurn(side => time(() => listAll(client, repository[side])));
  const page = `tags/list?n=100&last=${TAGS[TAGS.length / 2]}`;
  return [
    { what: 'push of 10 000 tags, one a request', unit: 'tags/s', ...single },
    { what: 'push of 10 000 tags, 50 a request', unit: 'tags/s', veneer: together, peer: single.peer },
    { what: 'list of 10 000 tags, 1000 a page', unit: 'ms', ...(await compare(RUNS, list)) },
    {
      what: '100 tags from the middle of 10 000',
      unit: 'requests/s',
      ...(await inTurn(side => measureRequests(`${repository[side]}/${page}`))),
    },
  ];
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
